"""The page of `imgpipe check`: one self-contained file with all findings and their images.

It has the same head, style and thumbnails as the report of a run, but other sections.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from imgpipe.components.common.named_images import NamedImage
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.report import page
from imgpipe.components.report.page_facts import PageFacts, empty
from imgpipe.components.report.pictures.galleries import Gallery
from imgpipe.components.report.pictures.near_duplicates import condensed
from imgpipe.components.report.section import Absent, Context, Section, SectionContent
from imgpipe.components.report.sections import images as sections
from imgpipe.components.report.sections import pictures
from imgpipe.components.report.sections.images import grouped, shown
from imgpipe.components.run_record.facts import ShownSettings
from imgpipe.components.run_record.verdict import RunState
from imgpipe.components.source_check import JudgedSource

_Row = TypeVar("_Row", bound=NamedImage)


def _verdict(
    judged_source: JudgedSource, reasons: Sequence[str], context: Context
) -> Mapping[str, Any]:
    """Return the verdict, the reasons of a refusal, what to do and the counts."""
    summary = judged_source.summary
    words = context.state.verdict.partition(": ")[2]
    if context.state.status != "refused":  # the sentence of a refusal says that already
        words = f"a run would accept this data: {words}"
    keys = {
        "images": summary["in"],
        "kept": summary["kept"],
        "rejected": summary["rejected"],
        "repaired": summary["repaired"],
        "with warnings": len({warning.path for warning in judged_source.images.warned}),
    }
    return {
        "sentence": words[:1].upper() + words[1:],
        "reasons": reasons,
        "findings": [finding for finding in summary["findings"] if finding["decides"]],
        "keys": list(keys.items()),
    }


def _data(context: Context) -> SectionContent:
    """Build the section of the run's report without warnings, which are shown as findings."""
    data = context.facts["data"]
    if data is not None:
        others = [finding for finding in data["findings"] if finding["fate"] != "warned"]
        data = {**data, "findings": others}
    facts: PageFacts = {**context.facts, "data": data}
    return sections.build_data(dataclasses.replace(context, facts=facts))


def _findings(by_fate: Mapping[str, Sequence[Row]], context: Context) -> Mapping[str, Any]:
    """Group all findings by what happened to the file, and by reason."""
    return {
        "groups": [
            group for fate, rows in by_fate.items() for group in grouped(context, rows, fate)
        ]
    }


def findings(judged_source: JudgedSource) -> dict[str, list[Row]]:
    """Return all findings by what happens to the file, the worst of each reason first."""
    warnings = sorted(
        judged_source.images.warned, key=lambda warning: (warning.score, warning.path)
    )
    return {
        "rejected": [row.row() for row in judged_source.images.rejected],
        "repaired": [row.row() for row in judged_source.images.repaired],
        "warned": [row.row() for row in warnings],
    }


def paths_shown(judged_source: JudgedSource, galleries: Sequence[Gallery]) -> set[str]:
    """Return the paths of the images that the page shows."""
    rows = [row for by_fate in findings(judged_source).values() for row in shown(by_fate)]
    paths = {row["path"] for row in rows}
    paths |= {row["kept_copy"] for row in rows if row["kept_copy"]}
    for group in condensed(judged_source.images.near_groups() or ())["rows"]:
        paths |= {member["path"] for member in group["members"]}
    return paths | {image["path"] for gallery in galleries for image in gallery["sample"]}


def render(
    judged_source: JudgedSource,
    galleries: Sequence[Gallery],
    images: Mapping[str, bytes],
    state: RunState,
    settings: ShownSettings,
    reasons: Iterable[str],
) -> str:
    """Draw the page.

    Args:
        judged_source: Result of the checks.
        galleries: Some kept images of each class.
        images: Encoded files of `paths_shown` by path; any bytes are safe.
        state: Status "clean", "usable" or "refused", and the sentence.
        settings: Name, source and vocabulary.
        reasons: Sentences that say why a run would refuse the data.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    near = None
    groups = judged_source.images.near_groups()
    if groups is not None:
        near = condensed(groups)
        for group in near["rows"]:
            group["members"] = [_by_path(member) for member in group["members"]]
    by_fate = {
        fate: [_by_path(row) for row in rows] for fate, rows in findings(judged_source).items()
    }
    shown_galleries: list[Gallery] = [
        {**gallery, "sample": [_by_path(image) for image in gallery["sample"]]}
        for gallery in galleries
    ]
    facts: PageFacts = {
        **empty(settings),
        "data": judged_source.summary,
        "near": near,
        "galleries": shown_galleries,
    }
    verdict = functools.partial(_verdict, judged_source, list(reasons))
    return page.render(
        facts,
        None,
        images,
        state,
        (
            Section("verdict", "Verdict", verdict, template="check_verdict"),
            pictures.GALLERY,
            Section("findings", "Findings", functools.partial(_findings, by_fate)),
            dataclasses.replace(sections.NEAR, build=_near, numbers=False),
            dataclasses.replace(sections.DATA, build=_data),
        ),
    )


def _near(context: Context) -> SectionContent:
    """Build the section of the run's report, which names where all groups are listed."""
    content = sections.build_near(context)
    if isinstance(content, Absent):
        return content
    return {**content, "listed_in": "The file that --json writes"}


def _by_path(row: _Row) -> _Row:
    """Return a row whose thumbnail is found by its path, as on this page."""
    by_path = row.copy()
    by_path["image_hash"] = row["path"]
    return by_path
