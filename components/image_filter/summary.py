"""The summary of the images of a run: what is counted, and what a person should know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from typing_extensions import TypedDict

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.image_row import TRANSCODED
from imgpipe.components.image_filter import file_clues
from imgpipe.components.image_filter.engine import JudgedImages
from imgpipe.components.image_filter.file_clues import FileClues
from imgpipe.components.image_filter.findings import (
    left_out,
    of_images,
    of_source,
    with_severity,
)
from imgpipe.models import names
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.settings.given import Given

if TYPE_CHECKING:
    import pandas as pd

DIVIDED_FAMILIES = "divided_families"
#: With fewer families and single images, an accuracy on held-out images varies much by chance.
_FEW_FAMILIES = 20
#: The decisions of people in words, by the verdict of an override.
_DECIDED = {"accept": "accepted", "reject": "rejected", "relabel": "relabelled"}
_FAMILIES_SHOWN = 10


class Overrides(TypedDict):
    """Effects of the overrides."""

    applied: Annotated[dict[str, int], "Number of images by verdict."]
    relabelled_test: Annotated[int, "Number of images of test whose label a person has changed."]
    unknown: Annotated[int, "Number of overrides that match no file."]


class Family(TypedDict):
    """A family of images."""

    name: Annotated[str, "Beginning of the names of its files, first image of the burst, or group."]
    images: Annotated[int, "Number of images that are kept."]


class Families(TypedDict):
    """Images that belong together, because they show the same thing."""

    found: Annotated[
        bool,
        "Whether names or capture times propose the families, and pictures confirm them; if not, "
        "a pattern or a column gives them.",
    ]
    families: Annotated[int, "Number of families."]
    images: Annotated[int, "Number of images in families."]
    examples: Annotated[list[Family], "The largest families."]
    independent: Annotated[
        dict[str, int],
        "Families and images without one, by split; near-duplicates are of one family, too.",
    ]
    divided: Annotated[
        dict[str, int],
        "Images of validation and test whose family has images in train, by split. Only a source "
        "that names the splits divides families.",
    ]
    alike_apart: Annotated[
        int,
        "Images that are alike only by way of others, which were rejected. Nothing confirms that "
        "they show the same, so that each counts by itself.",
    ]


#: The counts of a set of images.
DataCounts = TypedDict(
    "DataCounts",
    {
        "found": Annotated[int, "Files that were found: those that were read, and those left out."],
        "left_out": Annotated[
            dict[str, int],
            "Number of files in classes that were not read as images, by reason; found = kept + "
            "rejected + left out.",
        ],
        "in": Annotated[int, "Files that were read."],
        "kept": Annotated[int, "Images that a run would use."],
        "rejected": Annotated[int, "Files that a run would put into quarantine."],
        "repaired": Annotated[int, "Images that a run would store as PNG."],
        "transcoded": Annotated[
            dict[str, int],
            "Kept images that the served model cannot decode, by format.",
        ],
        "by_reason": Annotated[dict[str, int], "Number of rejected files by reason."],
        "by_split": Annotated[dict[str, dict[str, int]], "Number of images by split and class."],
        "families": Annotated[Families, "Images that belong together."],
        "file_clues": Annotated[
            FileClues | None,
            "How well properties of the files tell the classes apart; null if there are too few "
            "images, or a single class.",
        ],
        "overrides": Annotated[Overrides, "Effects of the overrides."],
    },
)


class DataSummary(DataCounts):
    """The counts of a set of images, and what was found out about it."""

    findings: Annotated[
        list[Finding],
        "Findings in the files, notes of the source, and what follows from the counts.",
    ]


def of_counts(counts: DataCounts) -> list[Finding]:
    """Return the findings that follow from the counts of a set of images."""
    return [
        *_families(counts["families"]),
        *_not_served(counts),
        *_overridden(counts["overrides"]),
        *_file_clues(counts["file_clues"]),
    ]


def _file_clues(clues: FileClues | None) -> Iterator[Finding]:
    """Say that the files tell the classes apart."""
    clause = file_clues.sentence(clues)
    if clause:
        sentence = f"{clause}, so that a model may learn where the images come from"
        ways = [file_clues.REMEDY]
        yield make_finding("file_clues", sentence, ways, title=clause, decides=True)


def _families(families: Families) -> Iterator[Finding]:
    """Describe the images that belong together."""
    if not families["families"]:
        return
    shown = "; ".join(
        f"{family['name']}: {plural(family['images'], 'image')}"
        for family in families["examples"][:2]
    )
    source = "the groups of the source tell"
    if families["found"]:
        source = "names propose and pictures confirm"
    images = plural(families["images"], "image belongs", "images belong")
    yield make_finding(
        "families",
        f"{images} to {plural(families['families'], 'family', 'families')} of images that show "
        f"the same thing, as {source} ({shown}); each family stays in one fold, and in one split "
        "where splits are drawn",
        ["if another part of the path says what belongs together: data.group_pattern"],
        count=families["images"],
    )
    divided = [
        f"{plural(number, 'image')} of {split}"
        for split, number in families["divided"].items()
        if number
    ]
    if divided:
        held_out = " and ".join(divided)
        yield make_finding(
            DIVIDED_FAMILIES,
            "the folders of the source divide families: train has images of the families of "
            f"{held_out}. A model is not judged by images of families that it has learned from",
            title=f"train has images of the families of {held_out}",
            decides=families["divided"][names.TEST] > 0,  # folds may decide about the others
            count=sum(families["divided"].values()),
        )
    number = families["independent"][names.TEST]  # where validation has few, folds decide
    if 0 < number < _FEW_FAMILIES:
        what = plural(number, "family or single image", "families and single images")
        yield make_finding(
            "few_families",
            f"test has only {what}, so that its accuracy varies much by chance",
            count=number,
        )


def _not_served(counts: DataCounts) -> Iterator[Finding]:
    """Say how many kept images a server does not take as they are."""
    kept = plural(counts["kept"], "kept image")
    total = sum(counts["transcoded"].values())
    if total:
        files = "is in a file" if total == 1 else "are in files"
        kinds = ", ".join(f"{number:,} {name}" for name, number in counts["transcoded"].items())
        yield make_finding(
            "not_served",
            f"{total:,} of the {kept} {files} that the served model cannot decode ({kinds}); its "
            "clients must convert such files to PNG or JPEG, which predict --model and "
            "imgpipe.load do by themselves",
            count=total,
        )


def _overridden(overrides: Overrides) -> Iterator[Finding]:
    """Count the decisions of people: `a person has decided about 2 images: 1 accepted, 1 rejected`.

    The labels of test among them are counted by themselves, because the test accuracy depends on
    them.
    """
    applied = overrides["applied"]
    if applied:
        images = plural(sum(applied.values()), "image")
        parts = [f"{number:,} {_DECIDED[verdict]}" for verdict, number in applied.items()]
        of_test = plural(overrides["relabelled_test"], "label")
        end = f" ({of_test} of test)" if overrides["relabelled_test"] else ""
        title = f"a person has decided about {images}: {', '.join(parts)}{end}"
        yield make_finding("overridden", "", title=title, decides=True)
    unknown = overrides["unknown"]
    if unknown:
        matches = plural(unknown, "override does", "overrides do")
        yield make_finding(
            "unknown_override",
            f"{matches} not match any file: the image was changed or removed",
            ["delete the entry from the overrides file, or update its hash"],
            count=unknown,
        )


def summarise(judgement: JudgedImages, given: Given, notes: Sequence[Finding]) -> DataSummary:
    """Count the images, and say what was found out about them.

    Args:
        judgement: All images of the source.
        given: What ImageFilter gets.
        notes: Notes of the source, most of them about files that were not read as images.
    """
    counts = _counts(judgement, given, notes)
    kept = judgement.images[judgement.images["reason"] == ""]
    listed = [
        *of_images("rejected", with_severity(judgement.findings, "reject")),
        *of_images("repaired", with_severity(judgement.findings, "repair")),
        *of_images("warned", with_severity(judgement.findings, "warn")),
        *of_source(notes, kept["label"].value_counts().to_dict()),
        *of_counts(counts),
        *judgement.notes,
    ]
    return {**counts, "findings": listed}


def _counts(judgement: JudgedImages, given: Given, notes: Sequence[Finding]) -> DataCounts:
    images = judgement.images
    kept = images[images["reason"] == ""]
    not_read = left_out(notes)
    by_split = {split: dict.fromkeys(given.facts.vocabulary, 0) for split in names.SPLITS}
    for (split, label), count in kept.groupby(["split", "label"]).size().items():
        by_split[split][label] = int(count)
    rejected = images[images["reason"] != ""]
    repaired = kept[kept["repairs"] == TRANSCODED]
    return {
        "found": len(images) + sum(not_read.values()),
        "left_out": not_read,
        "in": len(images),
        "kept": len(kept),
        "rejected": len(rejected),
        "repaired": len(repaired),
        "transcoded": _counted(repaired["format"]),
        "by_reason": _counted(rejected["reason"]),
        "by_split": by_split,
        "families": _counted_families(kept, judgement.alike_apart),
        "file_clues": file_clues.clues_of(kept),
        "overrides": _overrides(judgement, given),
    }


def _counted(values: pd.Series) -> dict[str, int]:
    """Return the number of each value, by the order of the values."""
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}


def _overrides(judgement: JudgedImages, given: Given) -> Overrides:
    """Count the effects of the overrides."""
    # A decision about an image is one, however many identical files there are.
    decided = judgement.images[judgement.images["verdict"] != ""].drop_duplicates("image_hash")
    kept = judgement.images[judgement.images["reason"] == ""]
    is_relabelled = kept["label_index"] != kept["source_index"]
    return {
        "applied": _counted(decided["verdict"]),
        "relabelled_test": int((is_relabelled & (kept["split"] == names.TEST)).sum()),
        "unknown": len({each.image_hash for each in given.facts.decisions}) - len(decided),
    }


def _counted_families(kept: pd.DataFrame, alike_apart: int) -> Families:
    """Count the images of families."""
    sizes = kept.loc[kept["group"] != "", "group"].value_counts()
    several = sizes[sizes > 1]  # one beside rejected copies joins nothing
    largest = sorted(several.items(), key=lambda item: (-item[1], item[0]))[:_FAMILIES_SHOWN]
    independent = kept.groupby("split")["family"].nunique()
    divided = kept.loc[kept["seen_family"], "split"].value_counts()
    return {
        "found": bool(kept["is_family"].any()),
        "families": len(several),
        "images": int(several.sum()),
        "examples": [{"name": name, "images": int(count)} for name, count in largest],
        "independent": {split: int(independent.get(split, 0)) for split in names.SPLITS},
        "divided": {split: int(divided.get(split, 0)) for split in (names.VALIDATION, names.TEST)},
        "alike_apart": alike_apart,
    }


def check_conservation(summary: DataSummary, ingested: int | None) -> None:
    """Check that every image was either kept or rejected.

    Raises:
        RuntimeError: Images were lost or counted twice, which is a defect.
    """
    out = summary["kept"] + summary["rejected"]
    if summary["in"] != out or ingested not in (None, summary["in"]):
        raise RuntimeError(
            f"images were lost in the filter: {ingested} ingested, {summary['in']} read, "
            f"{summary['kept']} kept + {summary['rejected']} rejected; this is a defect"
        )
