"""The table of images: a row for each file of the source.

It answers what the filter has decided, and what the report and a review show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common import row_files
from imgpipe.components.common.image_row import ImageFinding, ImageRow, Row
from imgpipe.components.image_filter.placement.families import FoundFamilies
from imgpipe.models import names
from imgpipe.models.settings.data import Severity

#: Reason of an override that was not applied because it would change a label of the test split.
NOT_RELABELLED = "kept_test_label"


@dataclass(frozen=True)
class ImageTable:
    """Images, each with what was found in it.

    Attributes:
        rows: The images, in any order.
        families: The families that were found; no file has them.
    """

    rows: Sequence[ImageRow]
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


def read_kept(uri: str) -> Iterator[ImageRow]:
    """Read the kept images of a quarantine, with the rows of one file in memory at a time."""
    for file in row_files.files(uri):
        yield from ImageTable(row_files.read(file)).kept


def read(uri: str, with_findings: bool = False) -> ImageTable:
    """Read the images of a quarantine, or only those in which something was found or decided.

    Raises:
        ResourceError: There is no table, or it cannot be read.
    """
    files = row_files.files(uri)
    return ImageTable([row for file in files for row in row_files.read(file, with_findings)])
