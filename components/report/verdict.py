"""The verdict of a run as a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.metrics import most_confused
from imgpipe.components.report.section import RunState
from imgpipe.components.report.text import overridden, plural


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
    folds = facts.get("cross_validation")
    if not gate["blessed"]:
        text = f"not blessed: {gate['figures']}: {'; '.join(gate['reasons'])}"
        text += _why_folds(folds) + _confusion(facts)
    else:
        text = f"blessed: {gate['figures']} reaches the threshold {gate['threshold']:g}"
        text += _why_folds(folds) + _against_baseline(facts)
        if "rollback" in (facts.get("push") or {}).get("refused_by", []):
            text += (
                "; not published, because a rollback withdrew this model (`imgpipe rollback --to` "
                "serves it again)"
            )
    return text + (f"; {changed}" if changed else "")


def _why_folds(folds: Mapping[str, Any] | None) -> str:
    """Say why the folds decide where no setting asked for them."""
    if not folds or not folds.get("automatic"):
        return ""
    return "; the folds decide, because the validation split has only " + plural(
        folds["validation_images"], "image"
    )


def _against_baseline(facts: Mapping[str, Any]) -> str:
    gate = facts["gate"]
    baseline = facts.get("baseline") or {}
    if gate["baseline"] is None:
        return f"; {baseline.get('why') or 'there is no earlier blessed model to compare with'}"
    reached = f"the last blessed version, {baseline.get('version')}, reaches {gate['baseline']:.3f}"
    if facts.get("cross_validation"):  # which compares no versions
        return f"; on validation the accuracy is {gate['value']:.3f}, where {reached}"
    return f"; {reached}"


def _confusion(facts: Mapping[str, Any]) -> str:
    matrix = (facts.get("confusion") or {}).get(facts["gate"]["split"])
    worst = most_confused(facts["settings"]["vocabulary"], matrix) if matrix else None
    return f"; most frequent error: {worst[0]} predicted as {worst[1]}" if worst else ""
