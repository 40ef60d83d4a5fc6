"""Compares the configuration and the data of two runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.models.limits import OUTPUT
from imgpipe.pipeline.configuration.flat_settings import flat
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.records.runs import Change


def configuration(first: PastRun, second: PastRun) -> list[Change]:
    """Return the settings that differ, except those that only name folders for outputs."""
    from imgpipe.pipeline.configuration.config import Config, marked

    # A run does not write settings that are not set.
    unset = {name for name, value in flat(Config().model_dump()) if value is None}
    return [
        change
        for change in _differing(first.config, second.config)
        if change.name not in marked(OUTPUT)
        # A setting that only one of the releases has is not a change of the configuration.
        and (change.name in unset or (change.name in first.config and change.name in second.config))
    ]


def data(first: PastRun, second: PastRun) -> list[Change]:
    """Return the counts that differ: kept images of each class, rejected and relabelled images."""
    return _differing(_counts(first), _counts(second))


def _counts(run: PastRun) -> dict[str, int]:
    if run.summary is None or not run.summary.data.images:
        return {}
    found = run.summary.data
    others = {"rejected": found.rejected, "relabelled": sum(found.overrides.values())}
    return {f"images of {name}": count for name, count in run.by_class.items()} | others


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    return [
        Change(name=name, before=first.get(name), after=second.get(name))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
