"""What was found in images, and how findings are grouped and named.

What is found in single files becomes a `Finding` here, what follows from counts in `summary`, and
what concerns the model in `run_record.verdict`.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.common.image_row import FileFinding, ImageFinding, described
from imgpipe.components.image_filter.judge.checks import TITLES
from imgpipe.models.finding import (
    UNUSED,
    Example,
    Fate,
    Finding,
    in_files,
    make_finding,
    usual_ways,
)
from imgpipe.models.settings.data import Severity

if TYPE_CHECKING:
    import pandas as pd

_SHARE = 3  # where a third of the images is left out, the others do not stand for all
_EXAMPLES = 20  # of each finding; the quarantine has all of them


class ImageFindings:
    """What was found in images, by their numbers in the table.

    What rejects an image is the only finding about it.
    """

    def __init__(self) -> None:
        self._of_image: dict[int, list[ImageFinding]] = {}

    def add(self, image: int, *findings: ImageFinding) -> None:
        """Add findings about an image."""
        for finding in findings:
            if finding.severity == "reject":
                self._of_image[image] = [finding]
            else:
                self._of_image.setdefault(image, []).append(finding)

    def remove(self, image: int, reason: str) -> None:
        """Take back what was found for a reason."""
        left = [finding for finding in self.of(image) if finding.reason != reason]
        self._of_image[image] = left

    def of(self, image: int) -> Sequence[ImageFinding]:
        """Return what was found in an image."""
        return self._of_image.get(image, ())

    def rejection(self, image: int) -> str:
        """Return the reason for which an image is rejected; "" if it is kept."""
        first = self.of(image)[:1]
        return first[0].reason if first and first[0].severity == "reject" else ""

    def kept(self, images: pd.DataFrame) -> pd.DataFrame:
        """Return the images of a table that nothing rejects."""
        is_kept = (not self.rejection(image) for image in images.index)
        return images[np.fromiter(is_kept, np.bool_, len(images))]

    def described(self, images: pd.DataFrame) -> list[FileFinding]:
        """Return all findings with the images of a table, by path and reason."""
        in_files = (
            described(row, finding)
            for row in images.loc[[*self._of_image]].itertuples()
            for finding in self.of(row.Index)
        )
        return sorted(in_files, key=lambda finding: (finding["path"], finding["reason"]))


def with_severity(findings: Iterable[FileFinding], severity: Severity) -> list[FileFinding]:
    """Return the findings of a severity."""
    return [finding for finding in findings if finding["severity"] == severity]


def reviewed(images: pd.DataFrame, findings: Iterable[FileFinding]) -> list[FileFinding]:
    """Return the effects of the overrides on images, by path; the reasons are their verdicts."""
    rejections = {finding["path"]: finding for finding in with_severity(findings, "reject")}
    effects = []
    for row in images[images["verdict"] != ""].sort_values("path").itertuples():
        rejection = rejections.get(row.path)
        detail = ""
        if row.verdict == "relabel":
            detail = f"{row.source_label or 'no label'} → {row.label}"
        if row.verdict != "reject" and rejection is not None:
            detail = f"stays rejected: {rejection['reason']}, {rejection['detail']}"
        effects.append(described(row, ImageFinding(row.verdict, detail, "warn")))
    return effects


def title_of(reason: str) -> str:
    """Return a reason in words."""
    return TITLES.get(reason) or reason.replace("_", " ")


def of_images(fate: Fate, rows: Iterable[FileFinding]) -> list[Finding]:
    """Group what was found in files by reason: the most frequent first, the worst of each."""
    by_reason: dict[str, list[FileFinding]] = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["score"], row["path"])):
        by_reason[row["reason"]].append(row)
    groups = sorted(by_reason.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [_of_reason(fate, reason, of_reason) for reason, of_reason in groups]


def _of_reason(fate: Fate, reason: str, rows: Sequence[FileFinding]) -> Finding:
    """Return the finding about all files with one reason, the worst of which are its examples."""
    ways = usual_ways(row["override"].split("; ") for row in rows if row["override"])
    examples: list[Example] = [
        {"path": row["path"], "detail": row["detail"], "image_hash": row["image_hash"]}
        for row in rows[:_EXAMPLES]
    ]
    about = make_finding(reason, "", ways, title_of(reason), count=len(rows))
    return in_files(fate, about, examples)


def left_out(notes: Iterable[Finding]) -> dict[str, int]:
    """Return the number of files that were found and are neither kept nor rejected, by reason."""
    return {note["reason"]: note["count"] for note in notes if note["fate"] == "left_out"}


def of_source(notes: Sequence[Finding], classes: Mapping[str, int]) -> list[Finding]:
    """Return the notes of a source, by the number of images that are kept of each class.

    What was left out decides, where it is a third of all images, or as many as a class has, and
    what may hold images in any case.
    """
    by_reason = left_out(notes)
    lost = sum(by_reason.values())
    smallest = min(filter(None, classes.values()), default=0)
    much = lost > 0 and (lost >= smallest or _SHARE * lost >= sum(classes.values()) + lost)
    return [
        {**note, "decides": note["decides"] or (much and note["reason"] in by_reason)}
        for note in notes
    ]


def not_used(findings: Iterable[Finding], decides: bool = False) -> str:
    """Say what was not used: "folder masks (400 images); column lesion_id".

    Args:
        findings: Findings about the images.
        decides: Whether only what decides is named.

    Returns:
        A line without a full stop; "" where everything was used.
    """
    unused = (finding for finding in findings if finding["fate"] in UNUSED)
    return "; ".join(finding["sentence"] for finding in unused if finding["decides"] or not decides)


def titles(findings: Iterable[Finding]) -> list[str]:
    """Return what decides in a few words each, for a verdict; what is not used is one of them."""
    deciding = [finding for finding in findings if finding["decides"]]
    unused = not_used(deciding)
    used = (finding for finding in deciding if finding["fate"] not in UNUSED)
    return [finding["title"] for finding in used] + ([f"not used: {unused}"] if unused else [])


def joined(about_images: Iterable[Finding], about_result: Sequence[Finding]) -> list[Finding]:
    """Return the findings about the images and the result, which knows more of the same reason."""
    reasons = {finding["reason"] for finding in about_result}
    others = [finding for finding in about_images if finding["reason"] not in reasons]
    return [*others, *about_result]
