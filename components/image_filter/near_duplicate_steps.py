"""The search for near-duplicates and their resolution in Beam, between the passes of the filter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from imgpipe.components.image_file.perceptual_hash import KINDS
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.checks.near_duplicate import radius
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates import search as tasks
from imgpipe.components.image_filter.near_duplicates.links import Indices, Links
from imgpipe.components.image_filter.near_duplicates.matching import FILE
from imgpipe.components.image_filter.near_duplicates.table import Table
from imgpipe.components.image_filter.part import Part
from imgpipe.components.storage.records import write_text


def _tabulate(parts: Sequence[Part], uri: str, settings: Settings) -> Table:
    return matching.tabulate(map(Part.hashes, parts), uri, radius(settings))


def _tasks(table: Table) -> list[tasks.Task]:
    return tasks.tasks(table.rows, KINDS)


def _linked(task: tasks.Task, table: Table, settings: Settings) -> Indices:
    return tasks.linked(table.hashes(), task, radius(settings))


def _find(joined: Indices, table: Table) -> Iterator[tuple[str, matching.Found | None]]:
    return matching.find([joined], table)


def _write(lines: list[dict[str, Any]], uri: str) -> None:
    text = "".join(json.dumps(line) + "\n" for line in matching.ordered(lines))
    write_text(f"{uri}/{FILE}", text)


class _Join(beam.CombineFn):
    """Joins the connected images of all tasks; each worker joins those of its own tasks first."""

    def create_accumulator(self) -> Indices:
        return np.empty((0, 2), np.int64)

    def add_input(self, joined: Indices, found: Indices) -> Indices:
        return Links([joined, found]).forest()

    def merge_accumulators(self, parts: Iterable[Indices]) -> Indices:
        return Links(parts).forest()

    def extract_output(self, joined: Indices) -> Indices:
        return joined


def search(parts: Any, uri: str, settings: Settings) -> Any:
    """Search the set for equal and similar images, on all workers.

    Args:
        parts: Collection of one element, the list of all parts.
        uri: Folder for files that all workers can read.
        settings: Settings of the checks.

    Returns:
        Collection of what `comparison.search` yields.
    """
    table = parts | "Tabulate" >> beam.Map(_tabulate, uri, settings)
    known = beam.pvalue.AsSingleton(table)
    return (
        table
        | "Tasks" >> beam.FlatMap(_tasks)
        # Otherwise one worker would run all tasks, in a step fused with the one above.
        | "Distribute" >> beam.Reshuffle()
        | "Compare" >> beam.Map(_linked, known, settings)
        | "Join" >> beam.CombineGlobally(_Join())
        | "Find" >> beam.FlatMap(_find, known)
    )


def resolve(by_content: Any, found: Any, uri: str, settings: Settings) -> Any:
    """Resolve the groups of near-duplicates.

    Args:
        by_content: Collection of the images, grouped by content hash.
        found: Collection of (content hash, its group).
        uri: URI of the quarantine, where the groups are listed.
        settings: Settings of the checks.

    Returns:
        Collection of (`Finding.key`, finding).
    """
    resolved = (
        by_content
        | "Members" >> beam.FlatMap(matching.members, found=beam.pvalue.AsDict(found))
        | "By group" >> beam.GroupByKey()
        | "Resolve" >> beam.FlatMap(matching.resolve_group, settings)
    )
    _ = (
        resolved
        | "Lines" >> beam.Map(lambda outcome: outcome[1])
        | "All groups" >> beam.combiners.ToList()
        | "Write" >> beam.Map(_write, uri)
    )
    return resolved | "Near" >> beam.FlatMap(lambda outcome: outcome[0])
