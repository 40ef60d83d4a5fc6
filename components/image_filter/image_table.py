"""The table of images: a row for each file of the source, in shards as the Examples are.

What the filter has decided is asked of this table: its counts, its lists, the groups of
near-duplicates, and what the report and a review show. On disk it is a file of Arrow for each shard
of the ingested Examples, with the rows in their order, below the URI of the quarantine:

    images/images-00000-of-00004.arrow

Text is stored as UTF-8 bytes, as in Examples, so that any name of a file can be stored.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage.records import Shard, numbered, read_bytes, write_bytes
from imgpipe.components.image_filter.copies.decisions import NEAR_DUPLICATES
from imgpipe.components.image_filter.judge.check import ImageFinding, Row, Severity
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.components.image_filter.placement.families import FoundFamilies
from imgpipe.models import names
from imgpipe.models.errors import ResourceError

if TYPE_CHECKING:
    import pyarrow as pa

#: Reason of an override that was not applied because it would change a label of the test split.
NOT_RELABELLED = "kept_test_label"
FOLDER = "images"  # of the tables, in the quarantine
_SUFFIX = ".arrow"
_RADIUS = "radius"  # name in the metadata of a file
#: Types of the fields of a row, and of those of its findings.
_FIELDS = {field.name: str(field.type) for field in fields(ImageRow)}
_FINDING = {field.name: str(field.type) for field in fields(ImageFinding)}


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


def shard_path(uri: str, shard: Shard) -> str:
    """Return the path of the rows of a shard of Examples, in the quarantine at `uri`."""
    return f"{uri}/{FOLDER}/images-{numbered(shard.number, shard.of)}{_SUFFIX}"


def write(file: str, table: ImageTable) -> None:
    """Write rows to a file, whole or not at all; a second attempt writes the same.

    Args:
        file: Path or URI of the file, in an existing folder.
        table: The rows.
    """
    import pyarrow as pa

    schema = _schema().with_metadata({_RADIUS: str(table.radius)})
    columns = [
        pa.array([_stored(getattr(row, field.name)) for row in table.rows], field.type)
        for field in schema
    ]
    written = pa.table(columns, schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, written.schema) as writer:
        writer.write_table(written)
    write_bytes(file, sink.getvalue().to_pybytes())


def read(file: str, with_findings: bool = False) -> ImageTable:
    """Read the rows of a file.

    Args:
        file: Path or URI of the file.
        with_findings: Whether to read only the images in which something was found, or which are
            in a group of near-duplicates.

    Raises:
        ResourceError: The file cannot be read, or ImageFilter did not write it.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(read_bytes(file)).read_all()
        table.validate(full=True)
        if not table.schema.equals(_schema()):
            raise ValueError("other columns")
        if with_findings:
            table = table.filter(_has_findings(table))
        radius = int(table.schema.metadata[_RADIUS.encode()])
        columns = [map(_loaded, table[name].to_pylist()) for name in _FIELDS]
        return ImageTable([ImageRow(*values) for values in zip(*columns, strict=True)], radius)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ResourceError(
            f"{file} is damaged ({type(error).__name__}: {error}). Expected the table that "
            "ImageFilter wrote. Run the pipeline again, which makes damaged artifacts anew."
        ) from error


def read_all(uri: str, with_findings: bool = False) -> ImageTable:
    """Read the images of a quarantine.

    Args:
        uri: URI of the quarantine.
        with_findings: See `read`.

    Raises:
        ResourceError: There is no table, or it cannot be read.
    """
    tables = [read(file, with_findings) for file in _files(uri)]
    return ImageTable([row for table in tables for row in table.rows], tables[0].radius)


def read_found(uri: str) -> ImageTable:
    """Read the images in which something was found, or which are in a group; see `read_all`."""
    return read_all(uri, with_findings=True)


def splits_of_kept(uri: str) -> dict[str, str]:
    """Return the split of each image that is kept, by content hash; see `read_all`."""
    return {row.image_hash: row.split for row in read_all(uri).kept}


def _files(uri: str) -> list[str]:
    """Return the paths of the tables of a quarantine, in order, of which there must be one."""
    if "://" not in uri:  # commands that read it need no TensorFlow
        files = sorted(map(str, Path(uri, FOLDER).glob(f"*{_SUFFIX}")))
    else:
        import tensorflow as tf

        files = sorted(tf.io.gfile.glob(f"{uri}/{FOLDER}/*{_SUFFIX}"))
    if not files:
        raise ResourceError(
            f"{uri} has no table of images ({FOLDER}/*{_SUFFIX}). Run the pipeline again."
        )
    return files


def _has_findings(table: pa.Table) -> pa.ChunkedArray:
    """Return for which rows something was found or decided, or which are in a group."""
    import pyarrow.compute as pc

    is_found = pc.greater(pc.list_value_length(table["findings"]), 0)
    is_reviewed = pc.greater(pc.binary_length(table["verdict"]), 0)
    return pc.or_(pc.or_(is_found, is_reviewed), pc.greater(table["near_group"], 0))


def _schema() -> pa.Schema:
    """Return the name and the type of Arrow of each field of a row."""
    import pyarrow as pa

    kinds = {
        "str": pa.binary(),
        "Severity": pa.binary(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
    }
    finding = pa.struct([(name, kinds[kind]) for name, kind in _FINDING.items()])
    kinds["tuple[ImageFinding, ...]"] = pa.list_(finding)
    return pa.schema([(name, kinds[kind]) for name, kind in _FIELDS.items()])


def _stored(value: Any) -> Any:
    """Return the value of a field as it is stored."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, tuple):
        return [{name: _stored(getattr(finding, name)) for name in _FINDING} for finding in value]
    return value


def _loaded(stored: Any) -> Any:
    """Return the value of a field from the one that is stored."""
    if isinstance(stored, bytes):
        return _text(stored)
    if isinstance(stored, list):
        return tuple(ImageFinding(*map(_loaded, finding.values())) for finding in stored)
    return stored


@functools.lru_cache(1024)  # most rows have the same labels, formats and cameras
def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")
