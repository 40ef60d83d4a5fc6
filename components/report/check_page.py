"""The page of `imgpipe check`: one self-contained file with all findings and their images.

It has the same head, style and thumbnails as the report of a run, but other sections.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from imgpipe.components.report import page
from imgpipe.components.report.section import Content, Context, RunState, Section
from imgpipe.components.report.sections import images as sections
from imgpipe.components.report.sections.images import common_override, condensed, shown
from imgpipe.components.source_check import Judged

#: Rows on the page for each group of findings; every reason gets a fair share of them.
_ROWS = 200
_OPEN = 12  # groups with at most this many files are unfolded
_FATES = ("rejected", "repaired", "warned")


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
    """Group the findings by what happens to the file and by reason, the most frequent first."""
    groups: list[dict[str, Any]] = []
    for fate in _FATES:
        rows = context.facts["findings"][fate]
        counts = collections.Counter(str(row["reason"]) for row in rows)
        listed = shown(rows, _ROWS)
        for reason, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
            here = [row for row in listed if row["reason"] == reason]
            groups.append(
                {
                    "fate": fate,
                    "reason": reason,
                    "count": count,
                    "override": common_override(here),
                    "rows": [_cells(context, row) for row in here],
                }
            )
    return {"groups": groups, "unfold": _OPEN}


def _cells(context: Context, row: Mapping[str, Any]) -> dict[str, str]:
    keys = ("path", "label", "split", "detail", "override", "kept_copy")
    texts = {key: str(row.get(key) or "") for key in keys}
    return {
        **texts,
        "image": context.thumbnails.uri(texts["path"]),
        "other": context.thumbnails.uri(texts["kept_copy"]),
    }


_SECTIONS = (
    Section("verdict", "Verdict", _verdict, template="check_verdict"),
    Section("findings", "Findings", _findings),
    sections.NEAR,
    dataclasses.replace(sections.DATA, build=_data),
)


def findings(judged: Judged) -> dict[str, list[dict[str, Any]]]:
    """Return all findings by what happens to the file, the worst of each reason first."""
    warnings = sorted(judged.warnings, key=lambda found: (found.score, found.path))
    return {
        "rejected": [row.row() for row in judged.rejects],
        "repaired": [row.row() for row in judged.repairs],
        "warned": [row.row() for row in warnings],
    }


def paths_shown(judged: Judged) -> set[str]:
    """Return the paths of the images that the page shows."""
    rows = [row for found in findings(judged).values() for row in shown(found, _ROWS)]
    groups = condensed(judged.near or ())["rows"]
    members = [member for group in groups for member in group["members"]]
    paths = {str(row["path"]) for row in (*rows, *members)}
    return paths | {str(row.get("kept_copy") or "") for row in rows} - {""}


def render(
    judged: Judged,
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
        groups = condensed(judged.near)
        groups["listed_in"] = "the file that --json writes"
        for group in groups["rows"]:  # thumbnails are addressed by path on this page
            group["members"] = [{**m, "image_hash": m["path"]} for m in group["members"]]
    facts = {
        "settings": settings,
        "data": judged.summary,
        "near": groups,
        "findings": findings(judged),
        "warned": len({found.path for found in judged.warnings}),
        "reasons": list(reasons),
    }
    return page.render(facts, {}, images, state, _SECTIONS)
