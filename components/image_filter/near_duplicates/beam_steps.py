"""Rulings about near-duplicates as Beam steps between the filter's two passes."""

from __future__ import annotations

import os
from typing import Any

import apache_beam as beam

from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.matching import FILE
from imgpipe.components.records import write_text


def _write(lines: list[dict[str, Any]], uri: str) -> None:
    write_text(f"{uri}/{FILE}", matching.listing(lines))


class NearDuplicates(beam.PTransform):
    """From copies by content and what is near each to (path as bytes, ruling)."""

    def __init__(self, uri: str, settings: matching.NearSettings) -> None:
        """`uri`: of the quarantine, where the groups are listed."""
        super().__init__()
        self._uri, self._settings = uri, settings

    def expand(self, inputs: tuple[Any, Any]) -> Any:
        """`inputs`: (content hash, its copies), grouped; and (content hash, what is near it)."""
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
        return resolved | "Rulings" >> beam.FlatMap(
            lambda outcome: [(os.fsencode(ruling.path), ruling) for ruling in outcome[0]]
        )
