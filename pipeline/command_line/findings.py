"""Shows findings on the terminal, in the same way for every command: see `models.finding`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imgpipe.components.image_filter.findings import not_used
from imgpipe.components.report.blocks import Figures, Span

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import NamedText, SpanLook
    from imgpipe.models.finding import Finding

#: Words and looks by what happens to the files.
_FATES: Mapping[str, Span] = {
    "rejected": Span("rejected", "bad"),
    "repaired": Span("repaired", "good"),
    "warned": Span("warned", "warn"),
    "not_used": Span("not used", "warn"),
    "noted": Span("noted", "muted"),
}


def listed(findings: Iterable[Finding]) -> Figures:
    """Return each finding that has examples: how many, the first one, what to do."""
    rows: list[NamedText] = []
    for finding in findings:
        if finding["examples"]:
            first = finding["examples"][0]
            example = ": ".join(filter(None, (first["path"], first["detail"])))
            counted = f"{finding['title']:<32} {finding['count']:>8,}  "
            rows.append((_FATES[finding["fate"]], (counted, Span(example, "muted"))))
            rows += _ways(finding)
    return Figures(rows)


def deciding(findings: Sequence[Finding]) -> Figures:
    """Return what belongs above the verdict: what decides, and what was not used."""
    used = [finding for finding in findings if finding["decides"] and finding["fate"] != "not_used"]
    rows = [*_sentences(used, "warn")]
    unused = not_used(findings)
    return Figures([*rows, (_FATES["not_used"], unused)] if unused else rows)


def notes(findings: Iterable[Finding]) -> Figures:
    """Return the sentences of what decides nothing, with what to do."""
    noted = (finding for finding in findings if finding["fate"] == "noted")
    return Figures([*_sentences((finding for finding in noted if not finding["decides"]), "")])


def _sentences(findings: Iterable[Finding], look: SpanLook) -> Iterator[NamedText]:
    for finding in findings:
        if finding["sentence"]:
            yield Span("note", look), finding["sentence"]
            yield from _ways(finding)


def _ways(finding: Finding) -> Iterator[NamedText]:
    return (("", f"→ {way}") for way in finding["remedies"])
