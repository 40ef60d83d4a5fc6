"""The table of images: a row for each file of the source.

What the filter has decided is asked of this table: its counts, its lists, the groups of
near-duplicates, and what the report and a review show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common import row_files
from imgpipe.components.common.image_row import ImageFinding, ImageRow, Row, Severity
from imgpipe.components.image_filter.copies.decisions import NEAR_DUPLICATES
from imgpipe.components.image_filter.placement.families import FoundFamilies
from imgpipe.models import names

#: Reason of an override that was not applied because it would change a label of the test split.
NOT_RELABELLED = "kept_test_label"


class NearGroup(TypedDict):
    """A group of near-duplicates."""

    size: Annotated[int, "Number of images of the group."]
    members: Annotated[list[Row], "The images of the group, by path."]


@dataclass(frozen=True)
class ImageTable:
    """Images, each with what was found in it.

    Attributes:
        rows: The images, in any order.
        radius: Bits within which images are near-duplicates; 0 if they were not searched for.
        families: The families that were found; no file has them.
    """

    rows: Sequence[ImageRow]
    radius: int
    families: FoundFamilies = field(default_factory=FoundFamilies)

    @property
    def kept(self) -> Iterator[ImageRow]:
        """The images that are kept."""
        return (row for row in self.rows if row.rejection is None)

    @property
    def rejected(self) -> list[Row]:
        """What rejects files, by path."""
        return self._with("reject")

    @property
    def repaired(self) -> list[Row]:
        """The images that are stored as PNG, by path."""
        return self._with("repair")

    @property
    def warned(self) -> list[Row]:
        """What images are kept with a warning for, by path."""
        return self._with("warn")

    def _with(self, severity: Severity) -> list[Row]:
        return _sorted(
            row.described(finding) for row in self.rows for finding in row.with_severity(severity)
        )

    @property
    def reviewed(self) -> list[Row]:
        """The effects of the overrides on images, by path; the reasons are their verdicts."""
        rows = (row for row in self.rows if row.verdict)
        return _sorted(row.described(_effect(row)) for row in rows)

    def near_groups(self) -> list[NearGroup] | None:
        """Return the groups of near-duplicates about which there is a finding.

        Returns:
            The groups, and their images, in the order of their paths; None if they were not
            searched for.
        """
        if not self.radius:
            return None
        by_number: dict[int, list[Row]] = defaultdict(list)
        for row in sorted((row for row in self.rows if row.near_group), key=lambda row: row.path):
            about = (finding for finding in row.findings if finding.reason in NEAR_DUPLICATES)
            finding = next(about, ImageFinding("", "", "warn"))
            by_number[row.near_group].append(row.described(finding))
        groups = (group for group in by_number.values() if any(copy["reason"] for copy in group))
        return [{"size": len(group), "members": group} for group in groups]


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["path"], row["reason"]))


def _effect(row: ImageRow) -> ImageFinding:
    """Return the effect of the override of an image."""
    rejection = row.rejection
    before = row.source_label or "no label"
    verdict = row.verdict
    detail = ""
    if verdict == "relabel" and row.split == names.TEST:
        verdict = NOT_RELABELLED
        detail = f"keeps {before}: overrides never change a label of test"
    elif verdict == "relabel":
        detail = f"{before} → {row.label}"
    if row.verdict != "reject" and rejection is not None:
        detail = f"stays rejected: {rejection.reason}, {rejection.detail}"
    return ImageFinding(verdict, detail, "warn")


def read_all(uri: str) -> ImageTable:
    """Read the images of a quarantine.

    Raises:
        ResourceError: There is no table, or it cannot be read.
    """
    return _read(uri, with_findings=False)


def read_found(uri: str) -> ImageTable:
    """Read the images in which something was found, or which are in a group; see `read_all`."""
    return _read(uri, with_findings=True)


def _read(uri: str, with_findings: bool) -> ImageTable:
    files = row_files.files(uri)
    rows = [row for file in files for row in row_files.read(file, with_findings)]
    return ImageTable(rows, row_files.radius(files[0]))
