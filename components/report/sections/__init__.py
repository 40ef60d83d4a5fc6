"""The sections of the report, one module and one template each.

A module in this folder that defines ``SECTION`` is a section of the page; its `Section.order`
is its position.
"""

from __future__ import annotations

import importlib
import pkgutil

from imgpipe.components.report.section import Section

__all__ = ["SECTIONS"]


def _found() -> tuple[Section, ...]:
    """Every `SECTION` of the modules in this folder, in the order of the page."""
    modules = (
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    )
    return tuple(sorted((module.SECTION for module in modules), key=lambda section: section.order))


SECTIONS = _found()
