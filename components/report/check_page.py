"""The page of `imgpipe check`: one self-contained file with all findings and their images.

It has the same head, style and thumbnails as the report of a run, but other sections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from imgpipe.components.report import page
from imgpipe.components.report.section import Content, Context, RunState, Section
from imgpipe.components.report.sections import images as sections
from imgpipe.components.report.sections.images import condensed, grouped, shown
from imgpipe.components.source_check import JudgedSource


def _verdict(context: Context) -> Mapping[str, Any]:
    found = context.part("data")
    words = context.state.verdict.partition(": ")[2]
    if context.state.status != "refused":  # the sentence of a refusal says that already
        words = f"a run would accept this data: {words}"
    keys = {
        "images": found["in"],
        "kept": found["kept"],
        "rejected": found["rejected"],
        "repaired": found["repaired"],
        "with warnings": context.facts["warned"],
    }
    return {
        "sentence": words[:1].upper() + words[1:],
        "reasons": context.facts["reasons"],
        "keys": list(keys.items()),
    }


def _data(context: Context) -> Content:
    """Build the section of the run's report without warnings, which are shown as findings."""
    facts = {**context.facts, "data": {**context.part("data"), "warnings": []}}
    return sections.build_data(dataclasses.replace(context, facts=facts))


def _findings(context: Context) -> Mapping[str, Any]:
    found = context.facts["findings"]
    return {"groups": [one for fate in found for one in grouped(context, found[fate], fate)]}


_SECTIONS = (
    Section("verdict", "Verdict", _verdict, template="check_verdict"),
    Section("findings", "Findings", _findings),
    sections.NEAR,
    dataclasses.replace(sections.DATA, build=_data),
)


def findings(judged: JudgedSource) -> dict[str, list[dict[str, Any]]]:
    """Return all findings by what happens to the file, the worst of each reason first."""
    warnings = sorted(judged.warnings, key=lambda found: (found.score, found.path))
    return {
        "rejected": [row.row() for row in judged.rejects],
        "repaired": [row.row() for row in judged.repairs],
        "warned": [row.row() for row in warnings],
    }


def paths_shown(judged: JudgedSource) -> set[str]:
    """Return the paths of the images that the page shows."""
    rows = [row for found in findings(judged).values() for row in shown(found)]
    groups = condensed(judged.near or ())["rows"]
    members = [member for group in groups for member in group["members"]]
    paths = {str(row["path"]) for row in (*rows, *members)}
    return paths | {str(row.get("kept_copy") or "") for row in rows} - {""}


def render(
    judged: JudgedSource,
    images: Mapping[str, bytes],
    state: RunState,
    settings: Mapping[str, Any],
    reasons: Iterable[str],
) -> str:
    """Draw the page.

    Args:
        judged: Result of the checks.
        images: Encoded files of `paths_shown` by path; any bytes are safe.
        state: Status "clean", "usable" or "refused", and the sentence.
        settings: Name, source and vocabulary.
        reasons: Sentences that say why a run would refuse the data.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    groups = None
    if judged.near is not None:
        groups = {**condensed(judged.near), "listed_in": "the file that --json writes"}
        for group in groups["rows"]:
            group["members"] = _by_path(group["members"])
    facts = {
        "settings": settings,
        "data": judged.summary,
        "near": groups,
        "findings": {fate: _by_path(rows) for fate, rows in findings(judged).items()},
        "warned": len({found.path for found in judged.warnings}),
        "reasons": list(reasons),
    }
    return page.render(facts, {}, images, state, _SECTIONS)


def _by_path(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose thumbnails are found by their paths, as on this page."""
    return [{**row, "image_hash": row["path"]} for row in rows]
