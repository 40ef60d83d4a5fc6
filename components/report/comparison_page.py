"""The page of ``imgpipe compare``: what differs between two runs, and between their models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgpipe.components.report import page, plots
from imgpipe.components.report.section import Absent, Content, Context, RunState, Section
from imgpipe.components.report.text import NONE, metric

_SHOWN = 48  # images of each kind
_KINDS = (("only_a", "A", "B"), ("only_b", "B", "A"))


def shown(found: Mapping[str, Any]) -> set[str]:
    """Return the hashes of the images that the page shows.

    Args:
        found: What ``--json`` writes.
    """
    return {row["image_hash"] for key, _, _ in _KINDS for row in found[key][:_SHOWN]}


def _verdict(context: Context) -> Content:
    found = context.facts["comparison"]
    runs = [
        {**run, "letter": letter, "verdict": run["verdict"] or run["status"]}
        for letter, run in (("A", found["a"]), ("B", found["b"]))
    ]
    return {"sentence": context.state.verdict, "runs": runs}


def _changes(context: Context) -> Content:
    found = context.facts["comparison"]
    titles = {"Configuration": "configuration", "Data": "data"}
    return {
        "groups": [
            {"title": title, "rows": [_values(change) for change in found[key]]}
            for title, key in titles.items()
        ]
    }


def _values(change: Mapping[str, Any]) -> dict[str, str]:
    """Return name, before and after as texts."""
    return {key: NONE if value in (None, "") else str(value) for key, value in change.items()}


def _metrics(context: Context) -> Content:
    found = context.facts["comparison"]
    rows = [
        {"split": split, "name": metric(name), **pair}
        for split, metrics in found["metrics"].items()
        for name, pair in metrics.items()
    ]
    if not rows:
        return Absent("Neither run has evaluated a model.")
    missing = found["paired_missing"]
    sentences = list(context.facts["sentences"])
    if missing:
        sentences.append(f"The images cannot be compared: {missing}.")
    return {"rows": rows, "sentences": sentences, "paired": bool(found["paired"])}


def _curves(context: Context) -> Content:
    """Draw the curves of both runs into one plot each."""
    found = context.facts["comparison"]["curves"]
    by_images = [
        [(point["images"], point["accuracy"]) for point in found[key]["images"]] for key in "ab"
    ]
    by_epoch = [
        [(number, one) for number, one in enumerate(found[key]["epochs"], 1) if one is not None]
        for key in "ab"
    ]
    drawn = []
    if any(by_images):
        title = "Accuracy in cross-validation by number of training images"
        drawn.append((title, plots.two_curves(by_images, "images", logarithmic=True)))
    if any(by_epoch):
        drawn.append(("Validation accuracy by epoch", plots.two_curves(by_epoch, "epochs")))
    return {"plots": drawn} if drawn else Absent("Neither run has recorded a curve.")


def _images(context: Context) -> Content:
    found = context.facts["comparison"]
    groups = [
        {
            "who": who,
            "other": other,
            "count": len(found[key]),
            "rows": [context.with_image(row) for row in found[key][:_SHOWN]],
        }
        for key, who, other in _KINDS
        if found[key]
    ]
    if not groups:
        return Absent("There is no image that only one of the models classifies correctly.")
    return {"groups": groups}


_SECTIONS = (
    Section("verdict", "Verdict", _verdict, template="comparison_verdict"),
    Section("metrics", "Metrics", _metrics, template="comparison_metrics"),
    Section("curves", "Curves", _curves, template="comparison_curves"),
    Section("images", "Images that one gets right", _images, template="comparison_images"),
    Section("changes", "What changed", _changes, template="comparison_changes"),
)


def render(found: Mapping[str, Any], sentences: Sequence[str], images: Mapping[str, bytes]) -> str:
    """Draw the page.

    Args:
        found: What ``--json`` writes.
        sentences: A sentence for each split about the difference on the same images.
        images: Encoded files of the images of `shown`, by image hash; any bytes are safe.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    names = [found[letter]["run"] for letter in "ab"]
    facts = {
        "settings": {"name": "imgpipe compare", "source": " · ".join(names)},
        "comparison": found,
        "sentences": sentences,
    }
    verdict = sentences[0] if sentences else f"Runs {names[0]} and {names[1]}."
    return page.render(facts, {}, images, RunState("compared", verdict), _SECTIONS)
