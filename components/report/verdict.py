"""The verdict of a run as a status and a sentence, its limits, and the expected result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import RunState
from imgpipe.components.report.text import converted, overridden, plural
from imgpipe.models import feature_names as names
from imgpipe.models.features.folds import FEW_IMAGES, FOLDS


def state(
    facts: Mapping[str, Any],
    error: str = "",
    failed: str = "",
    log: str = "",
    interrupted: bool = False,
) -> RunState:
    """Return the status and the verdict of a run.

    Args:
        facts: Facts from `imgpipe.components.report.facts.collect`.
        error: Why the run stopped, "" when it did not.
        failed: The component that stopped the run.
        log: Path of the log of the run.
        interrupted: Whether a person or the system stopped the run, which is not a failure.
    """
    gate = facts.get("data_gate") or {}
    if interrupted:
        status, text = "interrupted", error
    elif not error:
        status, text = "blessed" if is_blessed(facts) else "not_blessed", sentence(facts)
    elif failed == "DataGate" and not gate.get("blessed", True):
        status, text = "refused", error
    else:  # DataGate, too, may fail with an error before it decides
        status, text = "failed", f"failed in {failed or 'start-up'}: {error}"
    return RunState(status, text, error, log, failed if error else "")


def is_blessed(facts: Mapping[str, Any]) -> bool:
    """Return whether ImageEvaluator has blessed the model; see `image_evaluator.rules`."""
    return bool((facts.get("gate") or {}).get("blessed"))


def sentence(facts: Mapping[str, Any]) -> str:
    """Return the verdict with the accuracy, the reasons and the number of overridden labels."""
    gate = facts.get("gate")
    if gate is None:
        return "not blessed: the model was not evaluated"
    changed = overridden(facts.get("data") or {})
    folds = facts.get("cross_validation") or {}
    why_folds = ""
    if folds.get("automatic"):
        images = plural(folds["validation_images"], "image")
        why_folds = f"; the folds decide, because the validation split has only {images}"
        if names.VALIDATION in ((facts.get("training") or {}).get("learned") or {}):
            why_folds += ", from which the model has learned, too"
    if not gate["blessed"]:
        text = f"not blessed: {gate['figures']}: {'; '.join(gate['reasons'])}{why_folds}"
    else:
        text = f"blessed: {gate['figures']} reaches the threshold {gate['threshold']:g}{why_folds}"
        refused = (facts.get("push") or {}).get("refused_by", [])
        if "rollback" in refused:
            text += (
                "; not published, because a rollback withdrew this model (`imgpipe rollback --to` "
                "serves it again)"
            )
        elif "other_version" in refused:
            compared = (facts.get("baseline") or {}).get("version")
            why = "another version was published meanwhile"
            if compared:
                why = f"version {compared}, which it was compared with, is no longer the served one"
            text += f"; not published, because {why}: run again"
    text += _believable(facts)
    return text + (f"; {changed}" if changed else "")


def _believable(facts: Mapping[str, Any]) -> str:
    """Say which accuracy to believe if the source's splits divide families of images."""
    clauses = []
    for split, summary in (facts.get("metrics") or {}).items():
        unseen = summary.get("unseen")
        if unseen and unseen["count"]:
            seen = plural(summary["count"] - unseen["count"], "image")
            clauses.append(
                f"train has images of the same families as {seen} of {split}: believe the accuracy "
                f"{unseen['accuracy']:.3f} on its other {plural(unseen['count'], 'image')}, not "
                f"{summary['accuracy']:.3f}"
            )
        elif unseen:
            clauses.append(
                f"train has images of the families of all images of {split}, so that its accuracy "
                f"{summary['accuracy']:.3f} says little about new ones"
            )
    return "".join(f"; {clause}" for clause in clauses)


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """Return warnings about the limits of a verdict, one sentence each."""
    settings = facts.get("settings") or {}
    classes = settings.get("vocabulary") or []
    found = [_few_images(facts), *converted(facts.get("data") or {})]
    # Where all images of a class are in one fold, none of them can be right.
    found += [
        f"no fold could learn {classes[label]}, because all of its images are in one fold, as "
        f"the images of one group always are: {plural(count, 'image')} of it counted as wrong; "
        "add images of it in other groups, or let the validation split decide with "
        "evaluate.cross_validate = 0"
        for label, count in (facts.get("cross_validation") or {}).get("unlearned") or []
    ]
    note = str((facts.get("bank") or {}).get("note") or "")
    if "bank.budget" in note:  # the bank holds less than was asked for
        found.append(note)
    return list(filter(None, found))


def _few_images(facts: Mapping[str, Any]) -> str:
    count = (facts.get("gate") or {}).get("count") or 0
    if not 0 < count < FEW_IMAGES or facts.get("cross_validation"):
        return ""
    text = (
        f"the validation split has only {count} images, so each of them changes the accuracy by "
        f"{100 / count:.1f} percentage points; "
    )
    training = facts.get("training") or {}
    # Folds evaluate solved heads, and automatic ones lack independent images.
    asked = (facts.get("settings") or {}).get("cross_validate")
    if training.get("fine_tune") or not training.get("solution") or asked:
        return text + "add images, or give more of them to validation with split.validation"
    return (
        text + f"evaluate.cross_validate = {FOLDS} evaluates on all images of train and validation "
        "instead, which takes a few seconds"
    )


def expected(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compare the accuracy of the run with the [expect] section of the configuration.

    Args:
        facts: Facts from `imgpipe.components.report.facts.collect`.

    Returns:
        text, low, high, split, value (None when nothing was measured) and compared ("within",
        "above", "below", or None when there is nothing to compare). None when nothing is expected.
    """
    expect = (facts.get("settings") or {}).get("expect") or {}
    low, high = expect.get("low"), expect.get("high")
    if not expect.get("text") and low is None and high is None:
        return None
    metrics = facts.get("metrics") or {}
    split = expect["split"] if expect.get("split") in metrics else names.VALIDATION
    value = (metrics.get(split) or {}).get("accuracy")
    compared = None
    if value is not None and (low, high) != (None, None):
        compared = "below" if low is not None and value < low else "within"
        compared = "above" if high is not None and value > high else compared
    figures = {"low": low, "high": high, "split": split, "value": value, "compared": compared}
    return {"text": expect.get("text", "")} | figures


def expected_lines(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return (heading, text) of the expected result and of the result of this run."""
    if found is None:
        return []
    wanted = _range(found["low"], found["high"])
    lines = [("expected", "; ".join(filter(None, (wanted, found["text"]))))]
    if found["value"] is not None:
        compared = f": {found['compared']}" if found["compared"] else ""
        lines.append(("this run", f"{found['value']:.3f} on {found['split']}{compared}"))
    return lines


def _range(low: float | None, high: float | None) -> str:
    """Format a range: ``0.95 to 0.97``, ``0.8 or more``, ``0.84``; "" when there is none."""
    if low is None:
        return "" if high is None else f"up to {high:g}"
    if high is None:
        return f"{low:g} or more"
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
