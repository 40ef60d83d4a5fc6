"""Builds the summary of a run from its facts; `records.run` declares the fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.verdict import expected, warnings
from imgpipe.pipeline.records.run import Summary


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
    settings, data = facts["settings"], facts.get("data") or {}
    summary = Summary.model_validate(
        {
            "status": status,
            "blessed": status == "blessed",
            "verdict": verdict,
            "gate": facts.get("gate"),
            "cross_validation": facts.get("cross_validation"),
            "warnings": warnings(facts),
            "expected": expected(facts),
            "push": facts.get("push") or {},
            "model": {**settings, "classes": settings["vocabulary"]},
            "data": {
                **data,
                "warned": {one["reason"]: one["count"] for one in data.get("warnings", [])},
                "set_aside": (facts.get("near") or {}).get("set_aside", {}),
                "splits": data.get("by_split", {}),
                "overrides": (data.get("overrides") or {}).get("relabelled", {}),
                "proposals": settings.get("proposals", 0),
            },
            "training": _training(facts.get("training") or {}),
            "metrics": facts.get("metrics") or {},
            "timings": timings,
            "bank": _bank(facts.get("bank") or {}, cached="FeatureBank" in timings["cached"]),
            "cached": timings["cached"],
            "report": report,
            "log": log,
        }
    )
    return summary.dump()


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
    """Training and fine-tuning with their numbers of epochs; None if no model was trained."""
    if not history.get("epochs"):
        return None
    tuned = history.get("fine_tune")
    return {
        "trained": "head",
        **history,
        "epochs": len(history["epochs"]),
        "fine_tune": tuned and {**tuned, "epochs": len(tuned["epochs"])},
    }
