"""The pages of `imgpipe check` and of `imgpipe evaluate`."""

from __future__ import annotations

from collections.abc import Iterator

from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import data_reasons, said, section
from imgpipe.components.report.sections import accuracy, images, outcome, pictures
from imgpipe.components.run_record.result import Result


@section("verdict", "Verdict")
def verdict_of_check(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the verdict, its grounds, and what a check does not compare."""
    words = result["verdict"].partition(": ")[2]
    if result["status"] != "refused":  # the sentence of a refusal says that already
        words = f"a run would accept this data: {words}"
    yield show.Sentence(show.capitalised(words), "sentence")
    yield from outcome.class_photos(result)
    yield from grounds_of_check(result)


def grounds_of_check(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the reasons of a refusal, what to know before the verdict, and the counts."""
    data = result["data"]
    files = result["files"]
    if data is None or files is None:
        return
    yield show.Listed(data_reasons(result))
    yield from said(finding for finding in data["findings"] if finding["decides"])
    yield show.Sentence(
        "A check applies the same rules to the files and the numbers of images as a run. A run "
        "also compares the data with the accepted schema and with the data of the last blessed "
        "version, if there are any.",
        "muted",
    )
    counts = {
        "images": data["in"],
        "kept": data["kept"],
        "rejected": data["rejected"],
        "repaired": data["repaired"],
        "with warnings": len({row["path"] for row in files["warned"]}),
    }
    yield show.Figures([(name, f"{count:,}") for name, count in counts.items()], key=True)


@section("findings", "Findings")
def findings_of_check(result: Result) -> Iterator[show.ResultBlock]:
    """Yield all findings by what happened to the file, and by reason."""
    files = result["files"]
    if files is None:
        return
    warned = sorted(files["warned"], key=lambda row: (row["score"], row["path"]))
    by_fate = {"rejected": result["rejected"], "repaired": files["repaired"], "warned": warned}
    if not any(by_fate.values()):
        yield show.Sentence("No problems were found in single images.")
    for fate, rows in by_fate.items():
        yield from images.grouped(rows, fate)


#: Sections of the page of a check.
OF_CHECK = (
    verdict_of_check,
    pictures.gallery,
    findings_of_check,
    images.data,
)


@section("verdict", "Verdict")
def verdict_of_evaluation(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the sentence and its grounds."""
    yield show.Sentence(show.capitalised(result["verdict"]), "sentence")
    yield from grounds_of_evaluation(result)


def grounds_of_evaluation(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the findings, what was evaluated, and the key figures."""
    evaluated = result["evaluation"]
    if evaluated is None:
        return
    figures = result["metrics"]["evaluation"]
    yield from said(result["findings"])
    yield show.Sentence(
        f"The images come from {result['source']}, and the answers are those of the served "
        f"signature of {evaluated['model']}.",
        "muted",
    )
    keys = [
        ("images evaluated", count(figures["count"])),
        ("accuracy", share(figures["accuracy"])),
        ("log loss", share(figures["loss"])),
        ("expected calibration error", share(figures["ece"])),
        ("… by chance on this number of images", share(figures["ece_by_chance"])),
        ("classes", count(len(result["classes"]))),
    ]
    yield show.Figures(keys, key=True)


#: Sections of the page of an evaluation.
OF_EVALUATION = (
    verdict_of_evaluation,
    pictures.by_class,
    pictures.taken_for,
    accuracy.mistakes,
    accuracy.figures,
    accuracy.per_class,
    accuracy.slices,
)
