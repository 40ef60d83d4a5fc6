"""The page of ``imgpipe compare``: what differs between two runs, and between their models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgpipe.components.report import plots
from imgpipe.components.report.page import draw
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


def _verdict(context: Context) -> Mapping[str, Any]:
    found = context.facts["comparison"]
    runs = [
        {
            "letter": letter.upper(),
            "folder": found[letter]["folder"],
            "version": found[letter]["version"],
            "verdict": found[letter]["verdict"] or found[letter]["status"],
        }
        for letter in ("a", "b")
    ]
    return {"sentence": context.state.verdict, "runs": runs}


def _changes(context: Context) -> Mapping[str, Any]:
    found = context.facts["comparison"]
    groups = (("Configuration", "configuration"), ("Data", "data"))
    return {"groups": [{"title": title, "rows": _values(found[key])} for title, key in groups]}


def _values(changes: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "name": change["name"],
            **{
                key: NONE if change[key] in (None, "") else str(change[key])
                for key in ("before", "after")
            },
        }
        for change in changes
    ]


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
    drawn = [
        (title, plots.two_curves(lines[0], lines[1], name, logarithmic))
        for title, lines, name, logarithmic in (
            (
                "Accuracy in cross-validation by number of training images",
                by_images,
                "images",
                True,
            ),
            ("Validation accuracy by epoch", by_epoch, "epochs", False),
        )
        if any(lines)
    ]
    return {"plots": drawn} if drawn else Absent("Neither run has recorded a curve.")


def _images(context: Context) -> Content:
    found = context.facts["comparison"]
    groups = [
        {
            "who": who,
            "other": other,
            "count": len(found[key]),
            "rows": [
                {**row, "image": context.thumbnails.uri(row["image_hash"])}
                for row in found[key][:_SHOWN]
            ],
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
    names = [found[letter]["run"] for letter in ("a", "b")]
    facts = {
        "settings": {"name": "imgpipe compare", "source": " · ".join(names)},
        "comparison": found,
        "sentences": sentences,
    }
    verdict = sentences[0] if sentences else f"Runs {names[0]} and {names[1]}."
    return draw(facts, {}, images, RunState("compared", verdict), _SECTIONS)
