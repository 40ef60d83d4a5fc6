"""The sections of the report.

Every `Section` that a module in this folder defines is on the page; its `order` is its position.
"""

from __future__ import annotations

import importlib
import pkgutil

from imgpipe.components.report.blocks import Section

__all__ = ["SECTIONS"]


_modules = pkgutil.iter_modules(__path__, f"{__name__}.")
_values = (vars(importlib.import_module(module.name)).values() for module in _modules)
_sections = {
    value.id: value for values in _values for value in values if isinstance(value, Section)
}
SECTIONS = tuple(sorted(_sections.values(), key=lambda section: section.order))
