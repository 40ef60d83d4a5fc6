"""The facts of a run, and what the pictures of its page show besides: a page is drawn from both.

`facts.json` in the folder of a run holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from imgpipe.components.run_record import facts
from imgpipe.components.run_record.facts import Facts, ShownSettings

if TYPE_CHECKING:
    from imgpipe.components.report.pictures.galleries import Gallery
    from imgpipe.components.report.pictures.image_map import ImageMap
    from imgpipe.components.report.pictures.near_duplicates import ShownNearDuplicates


class PageFacts(Facts):
    """What a page is drawn from; a part is None or empty if the run did not get that far."""

    near: ShownNearDuplicates | None  # None if near-duplicates were not searched for
    galleries: list[Gallery]  # by class; empty without a feature bank
    map: ImageMap | None  # None without features, or with too few images


def empty(settings: ShownSettings) -> PageFacts:
    """Return the facts of a run of which nothing is known but its settings."""
    return {**facts.empty(settings), "near": None, "galleries": [], "map": None}


def collect(uris: Mapping[str, str], settings: ShownSettings) -> PageFacts:
    """Collect the facts of a run and what its pictures show; they can be written as JSON.

    Args:
        uris: Artifact URIs by the names of `run_record.collect.REPORTED`.
        settings: What `pipeline.definition.plan.report_settings` returns.
    """
    from imgpipe.components.report.pictures.galleries import galleries
    from imgpipe.components.report.pictures.image_map import image_map
    from imgpipe.components.report.pictures.near_duplicates import condensed
    from imgpipe.components.run_record import collect as run_record
    from imgpipe.models.machine.process import one_blas_thread

    collected = run_record.collect(uris, settings)
    groups = collected.near
    page: PageFacts = {
        **collected.facts,
        "near": None if groups is None else condensed(groups),
        "galleries": [],
        "map": None,
    }
    rows = collected.bank
    if rows is not None:
        # The map takes as long as the rest. The limit of one BLAS thread is set here too, because
        # both threads enter and leave it.
        with one_blas_thread(), ThreadPoolExecutor(1) as threads:
            placed = threads.submit(image_map, rows, collected.sample)
            vocabulary = collected.facts["settings"]["vocabulary"]
            page["galleries"] = galleries(rows, uris["bank"], vocabulary)
            page["map"] = placed.result()
    return page
