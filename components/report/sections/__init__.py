"""The sections of the page, in the order of the page: one small module and template each.

The next section is a module with a SECTION, a template of the same name, and a line here.
"""

from __future__ import annotations

from imgpipe.components.report.sections import (
    bank,
    confusion,
    data,
    figures,
    folds,
    lite,
    mistakes,
    model,
    near,
    per_class,
    rejects,
    serving,
    suspects,
    timings,
    training,
    verdict,
    views,
)
from imgpipe.components.report.sections.base import Absent, Context, Section

__all__ = ["SECTIONS", "Absent", "Context", "Section"]

SECTIONS: tuple[Section, ...] = (
    verdict.SECTION,
    model.SECTION,
    figures.SECTION,
    folds.SECTION,
    confusion.SECTION,
    per_class.SECTION,
    mistakes.SECTION,
    suspects.SECTION,
    training.SECTION,
    data.SECTION,
    rejects.SECTION,
    near.SECTION,
    views.SECTION,
    bank.SECTION,
    serving.SECTION,
    lite.SECTION,
    timings.SECTION,
)
