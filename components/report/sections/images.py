"""The images: counts, rejected files and doubtful labels."""

from __future__ import annotations

import collections
import heapq
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from imgpipe.components.common.formatting import capped, plural
from imgpipe.components.common.image_row import FileFinding
from imgpipe.components.data_gate.rules import DataDecision
from imgpipe.components.image_filter.copies.decisions import NEAR_DUPLICATES
from imgpipe.components.image_filter.findings import not_used, title_of
from imgpipe.components.image_filter.summary import DataSummary
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import data_reasons, said, section
from imgpipe.components.report.commands import review_command
from imgpipe.components.run_record.result import Result
from imgpipe.models import names
from imgpipe.models.finding import UNUSED, Fate, Finding

#: Number of images shown for each kind of warning, the worst first.
IMAGES = 6
#: Number of rows on the page, divided evenly among the reasons; the quarantine's manifest has all.
LIMIT = 200
_FEW = 12  # files of a reason that are not folded away
_LOOKS: Mapping[str, show.SpanLook] = {
    "rejected": "bad",
    "repaired": "good",
    "warned": "warn",
    "left_out": "warn",
    "not_used": "warn",
    "noted": "muted",
}
#: Images on the page; the file for review holds more.
DOUBTFUL = 24


@section("data", "Data", order=120, numbers=True)
def data(result: Result) -> Iterator[show.ResultBlock]:
    """Yield counts, images by split and class, findings and DataGate's decision.

    A check has told the decision, and the files of its findings, above.
    """
    data = result["data"]
    if data is None:
        return
    yield from counted(data)
    is_near = (finding["reason"] in NEAR_DUPLICATES for finding in data["findings"])
    if result["folder"] and any(is_near):
        command = show.Span(review_command(result, "copies"), "code")
        yield show.Sentence(("See near-duplicates side by side with ", command, "."))
    is_check = result["files"] is not None
    if result["data_gate"] is not None and not is_check:
        yield from _gate(result, result["data_gate"])
    yield from class_counts(data, result["classes"])
    fates = {*UNUSED, "noted"} if is_check else {"warned", *UNUSED, "noted"}
    yield from examples(data["findings"], fates)


def counted(data: DataSummary) -> Iterator[show.ResultBlock]:
    """Yield that no file was lost, and what else there is to know that does not decide."""
    yield show.Sentence(_conservation(data))
    others = [finding for finding in data["findings"] if not finding["decides"]]
    unused = not_used(others)
    if unused:
        yield show.Sentence(f"Not used: {unused}.")
    yield from said(finding for finding in others if finding["fate"] == "noted")


def _conservation(data: DataSummary) -> list[show.Inline]:
    """Say that every file was kept or rejected, and why files were rejected or repaired."""
    adds_up = show.Span("✓", "good")
    left_out = sum(data["left_out"].values())
    if data["found"] != data["kept"] + data["rejected"] + left_out:
        lost = "✕ The numbers do not add up: files were lost or counted twice"
        adds_up = show.Span(lost, "bad")
    counts = f"{data['found']:,} found = {data['kept']:,} kept + {data['rejected']:,} rejected"
    counts += f" + {left_out:,} left out" if left_out else ""
    reasons = _reasons(data, "rejected")
    more = f" Rejected: {reasons}." if reasons else ""
    if data["repaired"]:
        files = plural(data["repaired"], "file was", "files were")
        repairs = _reasons(data, "repaired")
        listed = f" ({repairs})" if repairs else ""
        more += f" {files} repaired{listed}; the original files are unchanged."
    return [show.Span(counts, "strong"), " ", adds_up, f".{more}"]


def _reasons(data: DataSummary, fate: Fate) -> str:
    """Return how many files have each reason of a fate."""
    of_fate = (finding for finding in data["findings"] if finding["fate"] == fate)
    return ", ".join(f"{finding['count']:,} {finding['title']}" for finding in of_fate)


def _gate(result: Result, gate: DataDecision) -> Iterator[show.ResultBlock]:
    """Yield what DataGate decided, with its reasons if the verdict has not named them."""
    refused = result["status"] == "refused"
    if gate["blessed"]:
        yield show.Sentence((show.Span("✓", "good"), " DataGate accepted the data."))
    else:
        above = "; the reasons are listed above" if refused and data_reasons(result) else ""
        yield show.Sentence(show.Span(f"✕ DataGate refused the data{above}.", "bad"))
    warnings = [
        (
            show.Span("Warning:", "muted"),
            f" {warning['sentence']}; {'; '.join(warning['remedies'])}",
        )
        for warning in gate["warnings"]
    ]
    yield show.Listed([*([] if refused else data_reasons(result)), *warnings])


def class_counts(data: DataSummary, vocabulary: Sequence[str]) -> Iterator[show.Table]:
    """Yield the table of kept images by class and split, with the smallest of many classes."""
    splits = data["by_split"]
    shown = [*names.SPLITS, *(split for split in splits if split not in names.SPLITS)]
    held_classes = (name for split in splits.values() for name in split)
    rows = [
        (name, [_count(splits, split, name) for split in shown])
        for name in dict.fromkeys([*vocabulary, *held_classes])
    ]
    if not rows:
        return
    totals = [sum(counts) for counts in zip(*(counts for _, counts in rows), strict=True)]
    first, note = capped(rows, lambda row: sum(row[1]))
    title = "Kept images by class and split"
    fewest = f" The classes with the fewest images: {note}" if note else ""
    yield show.Table(
        title,
        ("Class", *shown, "total"),
        [(show.Span(name, "name"), *counts, sum(counts)) for name, counts in first],
        total=("all classes", *totals, sum(totals)),
        caption=f"{title}.{fewest}",
    )


def _count(splits: Mapping[str, Mapping[str, int]], split: str, label: str) -> int:
    """Return the number of images of a class in a split."""
    return splits[split][label] if split in splits and label in splits[split] else 0


def examples(findings: Iterable[Finding], fates: Container[str] = _LOOKS) -> Iterator[show.Folded]:
    """Yield the first files of each finding, of such a fate, with what to do."""
    for finding in findings:
        if finding["examples"] and finding["fate"] in fates:
            yield _examples(finding)


def _examples(finding: Finding) -> show.Folded:
    blocks: list[show.ResultBlock] = [show.Listed(finding["remedies"], "ways")]
    cards: list[show.Card] = []
    for number, example in enumerate(finding["examples"]):
        notes = (finding["title"],)
        picture = show.Picture(example["image_hash"], example["path"], notes, optional=True)
        lines = [show.Span(example["path"], "path"), example["detail"]]
        cards.append(([picture] if number < IMAGES else [], lines))
    blocks.append(show.Cards(cards))
    # A folder that is not used is one example, and counts with all of its files.
    hidden = 0 if finding["fate"] in UNUSED else finding["count"] - len(cards)
    if hidden:
        blocks.append(show.Sentence(f"… {hidden:,} more", "muted"))
    fate = show.Span(finding["fate"].replace("_", " "), _LOOKS[finding["fate"]])
    return show.Folded((fate, f": {finding['count']:,} {finding['title']}"), blocks)


def shown(rows: Iterable[FileFinding], limit: int = LIMIT) -> list[FileFinding]:
    """Choose at most `limit` files with findings for the page, divided evenly among the reasons."""
    groups: dict[str, list[FileFinding]] = {}
    for row in rows:
        groups.setdefault(row["reason"], []).append(row)
    # In turn, so that a rare reason is shown beside thousands of files of another one.
    turns = ((turn, reason) for reason, alike in groups.items() for turn in range(len(alike)))
    quota = collections.Counter(reason for _, reason in heapq.nsmallest(limit, turns))
    return [row for reason, alike in groups.items() for row in alike[: quota[reason]]]


def grouped(rows: Sequence[FileFinding], fate: str = "") -> Iterator[show.Folded]:
    """Yield folded files for each reason, the most frequent first, from the quarantine's manifest.

    `fate` says what happened to the files, where that is not the same for all of the page.
    """
    chosen = shown(rows)
    counts = collections.Counter(row["reason"] for row in rows)
    for reason, number in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        of_reason = [row for row in chosen if row["reason"] == reason]
        hidden = f", {len(of_reason):,} shown" if len(of_reason) < number else ""
        title = title_of(reason)
        summary: list[show.Inline] = [show.Span(f"{fate} ", _LOOKS[fate])] if fate else []
        files = f" {plural(number, 'file')}{hidden}"
        summary += [show.Span(title, "strong"), show.Span(files, "muted")]
        ways = {row["override"] for row in of_reason}
        blocks: list[show.ResultBlock] = []
        if len(ways) == 1 and any(ways):
            blocks.append(show.Sentence(f"What to do: {ways.pop()}.", "muted"))
        blocks.append(show.Cards([_file(row, len(ways) > 1) for row in of_reason], large=True))
        yield show.Folded(summary, blocks, is_open=number <= _FEW)


def _file(row: FileFinding, with_way: bool) -> show.Card:
    """Return a file with what was found, and with what to do where that differs."""
    pictures = [show.Picture(row["image_hash"], row["path"], (title_of(row["reason"]),))]
    if row["kept_copy"]:  # a check has the images by their paths, too
        pictures.append(show.Picture(row["kept_copy"], row["kept_copy"], optional=True))
    place = ", ".join(filter(None, (row["label"], row["split"])))
    lines = [show.Span(row["path"], "path"), show.Span(place, "muted"), row["detail"]]
    return pictures, [*lines, row["override"]] if with_way else lines


@section("rejected", "Rejected files", order=50)
def rejected(result: Result) -> Iterator[show.ResultBlock]:
    """Group the rejected files, the most frequent reason first."""
    data = result["data"]
    rejected = result["rejected"]
    if data is None and not rejected:
        return
    if not rejected:
        none = "No file" if data is None else f"None of {plural(data['in'], 'file')}"
        yield show.Sentence(f"{none} was rejected.")
        return
    of = f" of {data['in']:,}" if data is not None else ""
    words: list[show.Inline] = [
        f"{plural(len(rejected), 'file')}{of} {'was' if len(rejected) == 1 else 'were'} rejected. "
        "Your files are unchanged; the quarantine is the folder with copies of these."
    ]
    if result["folder"]:
        words.append(" See them with ")
        words += [show.Span(review_command(result, "rejected"), "code"), "."]
    if len(rejected) > LIMIT:
        words.append(
            f" {LIMIT} of {len(rejected):,} are shown, some for each reason; findings.jsonl in the "
            "quarantine lists all of them."
        )
    yield show.Sentence(words)
    yield from grouped(rejected)


@section("doubtful_labels", "Doubtful labels", order=40)
def doubtful_labels(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the first doubtful labels, and the number of the other mistakes of the models."""
    suspects = result["suspects"]
    if suspects is None:
        return
    if not suspects["disagree"]:
        images = plural(suspects["images"], "image")
        taken = "is taken for another class by a model that has not seen it"
        yield show.Sentence(f"None of {images} {taken}.")
        return
    doubtful = suspects["doubtful"]
    rows = suspects["rows"][: min(doubtful, DOUBTFUL)]
    labels = plural(suspects["images"], "label")
    words = f"None of {labels} is doubtful."
    if doubtful:
        verb = "is" if doubtful == 1 else "are"
        words = (
            f"{doubtful:,} of {labels} {verb} doubtful: a model that has not seen the image "
            "answers another class, and the label may be wrong."
        )
    if len(rows) < doubtful:
        words += f" {len(rows)} are shown."
    others = suspects["disagree"] - doubtful
    if others > 0:
        what = plural(others, "other image" if doubtful else "image")
        are_mistakes = "is a mistake" if others == 1 else "are mistakes"
        model = "such a model" if doubtful else "a model that has not seen the image"
        words += f" {what} {are_mistakes} of {model}, and probably labelled right."
    kind = "doubtful" if doubtful else "mistakes"
    command = show.Span(review_command(result, kind), "code")
    yield show.Sentence((f"{words} Decide with ", command, "."))
    cards: list[show.Card] = []
    for row in rows:
        label = row["label"]
        looks_like = row["looks_like"]
        notes = (f"labelled {label}", f"answered {looks_like}")
        other = (show.Span("or ", "bad"), show.Span(looks_like, "name"))
        lines: list[show.Text] = [show.Span(label, "name"), other, show.Span(row["path"], "path")]
        cards.append(([show.Picture(row["image_hash"], row["path"], notes)], lines))
    if cards:
        yield show.Cards(cards)


@section("unlike_images", "Unlike their class", order=38)
def unlike_images(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the new images that are unlike the old ones of their class, class by class."""
    gate = result["gate"]
    unlike = gate["unlike"] if gate is not None else []
    if not unlike:
        return
    yield show.Sentence(
        (
            "These images are new since the last version, and unlike the images of their class "
            "that it knows by more than chance. The most unlike come first. Correct the data where "
            "they are wrong, or run again with ",
            show.Span("--accept", "code"),
            " to accept them.",
        )
    )
    for of_class in unlike:
        rows = of_class["images"][:DOUBTFUL]
        of_new = f"{of_class['unlike']:,} of {plural(of_class['new'], 'new image')}"
        hidden = f"; {len(rows)} are shown" if len(rows) < of_class["unlike"] else ""
        yield show.Heading(f"{of_class['class']}: {of_new}{hidden}")
        cards: list[show.Card] = []
        for row in rows:
            notes = ("new", f"labelled {row['label']}")
            picture = show.Picture(row["image_hash"], row["path"], notes)
            cards.append(([picture], [show.Span(row["path"], "path")]))
        yield show.Cards(cards)
