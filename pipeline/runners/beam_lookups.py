"""Lets Beam look up once in a run what it looks up for each step, though it does not change.

- To find out whether a step has state, Beam asks `inspect.signature` for the parameters of all its
  methods, and it asks again each time that the step is declared, translated, started or joined with
  others.
- To find out whether it shall check types, Beam builds a parser of command lines and parses all
  options, twice for each step.

Each of these was 5 % of the processor time of a run on 1,240 photographs. More than half of it was
in ImageEvaluator, whose pipeline has hundreds of steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core

#: Names and default values of the parameters of a function, as Beam returns them.
Parameters = tuple[list[str], list[Any]]
#: Beam's own functions, which are there again after the block, also if two blocks overlap.
INSPECTED, _VIEWED = core.get_function_args_defaults, PipelineOptions.view_as


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Remember the parameters of methods and the views of options in the block, in all threads."""
    methods: dict[Any, Parameters] = {}
    views: dict[Any, PipelineOptions] = {}

    def parameters(function: Any) -> Parameters:
        # All objects of a class share the function behind a method, which is kept without them.
        method = getattr(function, "__func__", None)
        if method is None:
            return INSPECTED(function)
        if method not in methods:
            methods[method] = INSPECTED(function)
        names, defaults = methods[method]
        return list(names), list(defaults)

    def view_as(options: Any, kind: Any) -> Any:
        # A view has no values of its own: it reads and changes those that it shares with others.
        # The views hold `_all_options`, so that no other object gets its id while they are kept.
        key = kind, id(options._all_options), tuple(options._flags or ())
        if key not in views:
            views[key] = _VIEWED(options, kind)
        return views[key]

    core.get_function_args_defaults, PipelineOptions.view_as = parameters, view_as
    try:
        yield
    finally:
        core.get_function_args_defaults, PipelineOptions.view_as = INSPECTED, _VIEWED
