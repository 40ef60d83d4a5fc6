"""Lets Beam inspect each method of its steps once in a run.

To find out whether a step has state, Beam asks `inspect.signature` for the parameters of all its
methods, and it asks again each time that the step is declared, translated, started or joined with
others. That is 5 % of the processor time of a run. More than half of it is in ImageEvaluator, whose
pipeline has hundreds of steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.transforms import core

#: Names and default values of the parameters of a function, as Beam returns them.
Parameters = tuple[list[str], list[Any]]


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Remember the parameters of methods in the block, for all threads."""
    inspected: Callable[[Any], Parameters] = core.get_function_args_defaults
    known: dict[Any, Parameters] = {}

    def parameters(function: Any) -> Parameters:
        # All objects of a class share the function behind a method, which is kept without them.
        method = getattr(function, "__func__", None)
        if method is None:
            return inspected(function)
        if method not in known:
            known[method] = inspected(function)
        names, defaults = known[method]
        return list(names), list(defaults)

    core.get_function_args_defaults = parameters
    try:
        yield
    finally:
        core.get_function_args_defaults = inspected
