"""The summary of the images of a run: what is counted, and what a person should know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from typing_extensions import TypedDict

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.image_row import TRANSCODED, Row
from imgpipe.components.image_filter import file_clues, findings
from imgpipe.components.image_filter.file_clues import FileClues
from imgpipe.components.image_filter.image_table import NOT_RELABELLED, ImageTable
from imgpipe.models import names
from imgpipe.models.files.image_limits import BODY_LIMIT, PIXEL_LIMIT
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.settings.given import Given

DIVIDED_FAMILIES = "divided_families"
#: With fewer families and single images, an accuracy on held-out images varies much by chance.
_FEW_FAMILIES = 20
#: The decisions of people in words, by the verdict of an override; see `_overridden` for `relabel`.
_DECIDED = {"accept": "accepted", "reject": "rejected"}
_HASH = 12  # characters of a hash that tell files apart
_UNKNOWN = 20  # overrides that are named
_FAMILIES_SHOWN = 10


class Overrides(TypedDict):
    """Effects of the overrides."""

    applied: Annotated[dict[str, int], "Number of images by verdict."]
    relabelled: Annotated[dict[str, int], "Number of images with another label, by split."]
    unknown: Annotated[list[str], "Hashes of overrides that match no file."]


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
        "too_large": Annotated[
            int, "Kept images of more pixels or bytes than a server takes by default."
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
        *_overridden(counts),
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
    large = counts["too_large"]
    if large:
        yield make_finding(
            "not_served",
            f"{large:,} of the {kept} {'has' if large == 1 else 'have'} more pixels or bytes than "
            f"servers and predict --model take ({PIXEL_LIMIT:,} pixels, "
            f"{BODY_LIMIT >> 20} MiB)",
            ["resize such images, also before they are sent"],
            count=large,
        )


def _overridden(counts: DataCounts) -> Iterator[Finding]:
    """Count the decisions of people: `a person has decided about 2 images: 1 accepted, 1 rejected`.

    Labels of test that were not overridden are counted, too.
    """
    applied = dict(counts["overrides"]["applied"])
    relabelled = counts["overrides"]["relabelled"]
    kept_labels = applied.pop(NOT_RELABELLED, 0)
    clauses = []
    if applied:
        images = plural(sum(applied.values()), "image")
        splits = ", ".join(f"{n:,} of {split}" for split, n in relabelled.items() if n)
        words = {**_DECIDED, "relabel": f"relabelled ({splits})" if splits else "relabelled"}
        parts = [f"{number:,} {words[verdict]}" for verdict, number in applied.items()]
        clauses.append(f"a person has decided about {images}: {', '.join(parts)}")
    if kept_labels:
        images = plural(kept_labels, "test image was", "test images were")
        clauses.append(f"{images} not relabelled, because labels of test never change")
    if clauses:
        yield make_finding("overridden", "", title="; ".join(clauses), decides=True)
    unknown = counts["overrides"]["unknown"]
    if unknown:
        matches = plural(len(unknown), "override does", "overrides do")
        yield make_finding(
            "unknown_override",
            f"{matches} not match any file ({', '.join(key[:_HASH] for key in unknown[:_UNKNOWN])}"
            f"{', …' if len(unknown) > _UNKNOWN else ''}): the image was changed or removed",
            ["delete the entry from the overrides file, or update its hash"],
            count=len(unknown),
        )


def summarise(images: ImageTable, given: Given, notes: Sequence[Finding]) -> DataSummary:
    """Count the images, and say what was found out about them.

    Args:
        images: All images of the source.
        given: What ImageFilter gets.
        notes: Notes of the source, most of them about files that were not read as images.
    """
    counts = _counts(images, given, notes)
    by_class = Counter(row.label for row in images.kept)
    listed = [
        *findings.of_images("rejected", images.rejected),
        *findings.of_images("repaired", images.repaired),
        *findings.of_images("warned", images.warned),
        *findings.of_source(notes, by_class),
        *of_counts(counts),
        *images.families.findings,
    ]
    return {**counts, "findings": listed}


def _counts(images: ImageTable, given: Given, notes: Sequence[Finding]) -> DataCounts:
    left_out = findings.left_out(notes)
    by_split = {split: dict.fromkeys(given.facts.vocabulary, 0) for split in names.SPLITS}
    by_place = Counter((row.split, row.label) for row in images.kept)
    for (split, label), count in sorted(by_place.items()):
        by_split[split][label] = count
    transcoded = Counter(row.format for row in images.kept if row.has(TRANSCODED))
    return {
        "found": len(images.rows) + sum(left_out.values()),
        "left_out": left_out,
        "in": len(images.rows),
        "kept": by_place.total(),
        "rejected": len(images.rejected),
        "repaired": len(images.repaired),
        "transcoded": dict(sorted(transcoded.items())),
        "too_large": sum(
            row.pixels > PIXEL_LIMIT or row.byte_size > BODY_LIMIT for row in images.kept
        ),
        "by_reason": _by_reason(images.rejected),
        "by_split": by_split,
        "families": _counted_families(images),
        "file_clues": file_clues.clues_of(images.kept),
        "overrides": _overrides(images, given),
    }


def _overrides(images: ImageTable, given: Given) -> Overrides:
    """Count the effects of the overrides."""
    # A decision about an image is one, however many identical files there are.
    applied = {(effect["reason"], effect["image_hash"]): effect for effect in images.reviewed}
    relabelled = Counter(row.split for row in images.kept if row.label != row.source_label)
    hashes = [effect["image_hash"] for effect in images.reviewed]
    matched = {entry for key in hashes for entry in given.facts.decisions_about(key)}
    return {
        "applied": _by_reason(applied.values()),
        "relabelled": {split: relabelled[split] for split in names.SPLITS},
        "unknown": sorted(
            {each.image_hash for each in given.facts.decisions if each not in matched}
        ),
    }


def _counted_families(images: ImageTable) -> Families:
    """Count the images of families."""
    sizes = Counter(row.group for row in images.kept if row.group)
    independent = Counter(split for _, split in {(row.family, row.split) for row in images.kept})
    divided = Counter(row.split for row in images.kept if row.seen_family)
    # A family of which one image is kept, as beside its rejected copies, joins nothing.
    several = Counter({name: count for name, count in sizes.items() if count > 1})
    largest = sorted(several.items(), key=lambda item: (-item[1], item[0]))
    return {
        "found": any(row.is_family for row in images.kept),
        "families": len(several),
        "images": several.total(),
        "examples": [{"name": name, "images": count} for name, count in largest[:_FAMILIES_SHOWN]],
        "independent": {split: independent[split] for split in names.SPLITS},
        "divided": {split: divided[split] for split in (names.VALIDATION, names.TEST)},
        "alike_apart": images.families.alike_apart,
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


def _by_reason(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["reason"] for row in rows).items()))
