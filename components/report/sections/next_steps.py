"""What to do next: the first things that would make the model better."""

from __future__ import annotations

from imgpipe.components.report.advice import advice
from imgpipe.components.report.section import Absent, Content, Context, Section


def build(context: Context) -> Content:
    """Return the advice."""
    found = advice(context.facts)
    if not found and context.state.error:
        return context.absent("There is nothing to advise from")
    if not found:
        return Absent("No fact of this run calls for a change of data or settings.")
    return {"advice": found}


SECTION = Section("next_steps", "What to do next", build, order=15)
