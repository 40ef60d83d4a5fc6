"""The verdict of a run as a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components import rounded_text
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
    """Return whether both ImageEvaluator and ServingValidator blessed the model."""
    gate = facts.get("gate") or {}
    checks = facts.get("serving") or []
    serves = bool(checks) and all(check["passed"] for check in checks)
    return bool(gate.get("blessed")) and serves


def sentence(facts: Mapping[str, Any]) -> str:
    """Return the verdict with the accuracy, the reasons and the number of overridden labels."""
    gate = facts.get("gate")
    if gate is None:
        return "not blessed: the model was not evaluated"
    changed = overridden(facts.get("data") or {})
    return _judged(facts, gate) + (f"; {changed}" if changed else "")


def _judged(facts: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    folds = facts.get("cross_validation")
    figures = _by_folds(folds, gate) if folds else _by_validation(gate)
    if is_blessed(facts):
        text = f"blessed: {figures} reaches the threshold {gate['threshold']:g}"
        text += _why_folds(folds) + _against_baseline(facts)
        if "rollback" in (facts.get("push") or {}).get("refused_by", []):
            text += (
                "; not published, because a rollback withdrew this model (`imgpipe rollback --to` "
                "serves it again)"
            )
        return text
    broken = [check for check in facts.get("serving") or [] if not check["passed"]]
    reasons = []
    evaluated = bool(folds) or gate["value"] is not None
    if evaluated and {"threshold", "cross_validation"} & set(gate["failed"]):
        reasons.append(f"is below the threshold {gate['threshold']:g}")
    if "baseline" in gate["failed"]:
        version = (facts.get("baseline") or {}).get("version")
        whose = f"{_by_validation(gate)} " if folds else ""
        _, reached = rounded_text.apart(gate["value"], gate["baseline"])
        if folds and not reasons:
            whose = f"reaches the threshold {gate['threshold']:g}, but {whose}"
        reasons.append(f"{whose}is below {reached}, which version {version} reached")
    text = f"not blessed: {figures}"
    if reasons:
        text += " " + " and ".join(reasons)
    if "baseline" not in gate["failed"]:  # which validation decides
        text += _why_folds(folds)
    if "evaluator" in gate["failed"]:
        text += "; ImageEvaluator did not bless it"
    if broken:
        text += f"; the serving check {broken[0]['name']!r} failed: {broken[0]['detail']}"
    return text + _confusion(facts)


def _by_validation(gate: Mapping[str, Any]) -> str:
    """Describe the accuracy on the validation split."""
    value = gate["value"]
    if value is None:
        return "no validation image was evaluated"
    low, high = gate["ci95"]
    texts = [f"{value:.3f}"]
    if "threshold" in gate["failed"]:
        texts.append(rounded_text.below(value, gate["threshold"]))
    if "baseline" in gate["failed"]:
        texts.append(rounded_text.apart(value, gate["baseline"])[0])
    return (
        f"validation accuracy {max(texts, key=len)} "
        f"({gate['correct']:,} of {gate['count']:,} correct, 95 % interval {low:.2f}–{high:.2f})"
    )


def _by_folds(folds: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """Describe the mean accuracy of the folds."""
    mean = f"{folds['mean']:.3f}"
    if "cross_validation" in gate["failed"]:
        mean = rounded_text.below(folds["mean"], gate["threshold"])
    return (
        f"mean accuracy {mean} ± {folds['std']:.3f} over {folds['folds']} folds "
        f"({folds['min']:.3f} to {folds['max']:.3f}; "
        f"{folds['correct']:,} of {folds['images']:,} correct)"
    )


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
