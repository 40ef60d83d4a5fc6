"""Draws pages for tests."""

from __future__ import annotations

from collections.abc import Mapping

from imgpipe.components.report.blocks import Context
from imgpipe.components.report.page import Page
from imgpipe.components.run_record.facts import Facts
from imgpipe.components.run_record.run_folder import Timings
from imgpipe.components.run_record.verdict import RunState


def render(
    facts: Facts, timings: Timings | None, images: Mapping[str, bytes], state: RunState
) -> str:
    """Return the page of a run as HTML."""
    return Page.of(Context(facts, timings, state)).html(images)
