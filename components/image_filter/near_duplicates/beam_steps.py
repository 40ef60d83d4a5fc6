"""The search for near-duplicates and their resolution in Beam, between the passes of the filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from imgpipe.components.image_file.perceptual_hash import KINDS
from imgpipe.components.image_filter import comparison
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.near_duplicates import matching, search
from imgpipe.components.image_filter.near_duplicates.links import Indices, Links
from imgpipe.components.image_filter.near_duplicates.matching import FILE
from imgpipe.components.storage.records import write_text


def _tasks(task: matching.Search) -> list[search.Task]:
    return search.tasks(task.table.rows, KINDS)


def _linked(share: search.Task, task: matching.Search) -> Indices:
    return search.linked(task.table.hashes(), share, task.radius)


def _find(joined: Indices, task: matching.Search) -> Iterator[tuple[str, matching.Found | None]]:
    return matching.find([joined], task)


def _write(lines: list[dict[str, Any]], uri: str) -> None:
    write_text(f"{uri}/{FILE}", matching.listing(lines))


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


class Search(beam.PTransform):
    """Transform that searches the set for equal and similar images, on all workers.

    Args:
        uri: Folder for files that all workers can read.
        settings: Settings of the checks.
    """

    def __init__(self, uri: str, settings: Settings) -> None:
        super().__init__()
        self._uri, self._settings = uri, settings

    def expand(self, parts: Any) -> Any:
        """Apply the transform.

        Args:
            parts: One element, the list of all parts.

        Returns:
            What `comparison.search` yields.
        """
        task = parts | "Tabulate" >> beam.Map(comparison.tabulate, self._settings, self._uri)
        known = beam.pvalue.AsSingleton(task)
        return (
            task
            | "Tasks" >> beam.FlatMap(_tasks)
            # Otherwise one worker would run all tasks, in a step fused with the one above.
            | "Distribute" >> beam.Reshuffle()
            | "Compare" >> beam.Map(_linked, known)
            | "Join" >> beam.CombineGlobally(_Join())
            | "Find" >> beam.FlatMap(_find, known)
        )


class NearDuplicates(beam.PTransform):
    """Transform that resolves groups of near-duplicates to (`Finding.key`, finding).

    Args:
        uri: URI of the quarantine, where the groups are listed.
        settings: Settings of the checks.
    """

    def __init__(self, uri: str, settings: Settings) -> None:
        super().__init__()
        self._uri, self._settings = uri, settings

    def expand(self, inputs: tuple[Any, Any]) -> Any:
        """Apply the transform.

        Args:
            inputs: The images grouped by content hash, and (content hash, its group).
        """
        by_content, found = inputs
        resolved = (
            by_content
            | "Members" >> beam.FlatMap(matching.members, found=beam.pvalue.AsDict(found))
            | "By group" >> beam.GroupByKey()
            | "Resolve" >> beam.FlatMap(matching.resolve_group, self._settings)
        )
        _ = (
            resolved
            | "Lines" >> beam.Map(lambda outcome: outcome[1])
            | "All groups" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write, self._uri)
        )
        return resolved | "Findings" >> beam.FlatMap(lambda outcome: outcome[0])
