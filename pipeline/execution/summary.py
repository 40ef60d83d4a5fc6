"""Builds the summary of a run for other programs (``--json``).

`imgpipe.pipeline.json_formats.run` declares the fields. All of them are always present; their value
is null if the run did not get that far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.expectation import beside
from imgpipe.components.report.hints import warnings

SCHEMA = 1
#: Fields of the result of the folds.
FOLDS = (
    *("folds", "threshold", "mean", "std", "min", "max", "images", "correct", "groups"),
    *("per_fold", "seconds", "blessed", "automatic"),
)
_METRICS = ("accuracy", "loss", "ece", "ece_by_chance", "per_class")
_EXPORT = ("blessed", "why", "file", "bytes", "images", "accuracy", "model_accuracy", "agreement")


def build(
    facts: Mapping[str, Any],
    timings: Mapping[str, Any],
    report: str | None,
    status: str,
    verdict: str,
    log: str,
) -> dict[str, Any]:
    """Assemble the summary.

    Args:
        facts: Facts of `imgpipe.components.report.facts.collect`.
        timings: ``{"total_s", "import_s", "components": {name: s}, "cached": [name]}``, in seconds.
        report: Path of the report, None if none was written.
        status: blessed, not_blessed, refused, failed or interrupted.
        verdict: The outcome as a sentence.
        log: Path of the run's log.

    Returns:
        The summary, which consists of JSON values only.
    """
    settings = facts["settings"]
    push = facts.get("push") or {"status": "refused", "version": None, "path": None}
    gate = facts.get("gate")
    folds, lite = facts.get("cross_validation"), facts.get("lite")
    return {
        "schema": SCHEMA,
        "status": status,
        "blessed": status == "blessed",
        "verdict": verdict,
        "gate": gate
        and {
            key: gate[key] for key in ("split", "threshold", "value", "ci95", "baseline", "failed")
        },
        "cross_validation": folds and {key: folds[key] for key in FOLDS},
        "lite": lite
        and {export["kind"]: {key: export[key] for key in _EXPORT} for export in lite["exports"]},
        "warnings": warnings(facts),
        "expected": beside(facts),
        "push": {key: push.get(key) for key in ("status", "version", "path")},
        "model": {
            "name": settings["name"],
            "backbone": settings["backbone"],
            "classes": settings["vocabulary"],
            "image_size": settings["image_size"],
        },
        "data": _data(facts, settings.get("proposals", 0)),
        "training": _training(facts.get("training") or {}),
        "metrics": {
            split: {key: figures[key] for key in _METRICS}
            for split, figures in (facts.get("metrics") or {}).items()
        },
        "timings": {key: timings[key] for key in ("total_s", "import_s", "components")},
        "bank": _bank(facts.get("bank") or {}, cached="FeatureBank" in timings["cached"]),
        "cached": list(timings["cached"]),
        "report": report,
        "log": log,
    }


def _data(facts: Mapping[str, Any], proposals: int) -> dict[str, Any]:
    """Numbers of images by what became of them, and of overrides that nobody has confirmed."""
    data = facts.get("data") or {}
    return {
        "in": data.get("in", 0),
        "kept": data.get("kept", 0),
        "rejected": data.get("rejected", 0),
        "repaired": data.get("repaired", 0),
        "by_reason": data.get("by_reason", {}),
        "warned": {found["reason"]: found["count"] for found in data.get("warnings", [])},
        "set_aside": (facts.get("near") or {}).get("set_aside", {}),
        "splits": data.get("by_split", {}),
        "overrides": (data.get("overrides") or {}).get("relabelled", {}),
        "proposals": proposals,
    }


def _bank(bank: Mapping[str, Any], cached: bool) -> dict[str, int]:
    """Forward passes of this run and features that were reused.

    Args:
        bank: Numbers of the component FeatureBank.
        cached: Whether its output is that of an earlier run, which made the forward passes.
    """
    # What the earlier run computed is read again by this one, and counts as reused.
    made, reused = bank.get("forward_passes", 0), bank.get("reused", 0)
    return {"forward_passes": 0 if cached else made, "reused": reused + made * cached}


def _training(history: Mapping[str, Any]) -> dict[str, Any] | None:
    """Training, fine-tuning and calibration; None if no model was trained."""
    if not history.get("epochs"):
        return None
    fine_tuned = history.get("fine_tune")
    stage = ("best_epoch", "stopped", "seconds")
    outcome = ("trained", "head_accuracy", "accuracy", "helped", "shipped")
    return {
        "trained": history.get("trained", "head"),
        "epochs": len(history["epochs"]),
        **{key: history.get(key) for key in stage},
        "solution": history.get("solution"),
        "fine_tune": fine_tuned
        and {
            "epochs": len(fine_tuned["epochs"]),
            **{key: fine_tuned.get(key) for key in (*stage, *outcome)},
        },
        "calibration": history.get("calibration"),
        "search": history.get("search"),
        "search_ended": history.get("search_ended"),
    }
