"""The feature bank: the forward passes of the frozen backbone in this run."""

from __future__ import annotations

from imgpipe.components.report.section import Absent, Content, Context, Section


def build(context: Context) -> Content:
    """Count the forward passes that were computed and reused."""
    bank = context.part("bank")
    if not bank:
        return context.absent("No features were extracted")
    if bank.get("dim") == 0:
        return Absent(f"No features are stored: {bank.get('note') or 'training reads the images'}.")
    forward, reused = bank.get("forward_passes") or 0, bank.get("reused") or 0
    total = forward + reused
    return {
        "bank": bank,
        "total": total,
        "share": reused / total if total else None,
        "cached": "FeatureBank" in (context.timings.get("cached") or ()),
    }


SECTION = Section("bank", "Feature bank", build, order=140)
