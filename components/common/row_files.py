"""The images of a run as tables on disk, and the kept ones in columns.

ImageExampleGen writes what was read beside its Examples, and ImageFilter the same rows with what it
has decided into the quarantine. There is a file of Arrow for each shard of Examples, in the order
of its records:

    images/images-00000-of-00004.arrow

Text is stored as UTF-8 bytes, as in Examples, so that any name of a file can be stored.
Measurements and perceptual hashes are most of a table, and few ask for them, so that they are read
only on demand.

`ImageColumns` are the kept images: path, split, family and measurements by content hash, with which
features and answers are stored. Of identical files only one is kept, so a hash names one image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from imgpipe.components.common.image_file.content import NOT_MEASURED
from imgpipe.components.common.image_file.pixels import ALL_BYTES, MEASUREMENTS
from imgpipe.components.common.image_row import ImageFinding, ImageRow, PlacedImage
from imgpipe.components.common.storage.records import numbered, read_bytes, write_bytes
from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Floats, Integers, Names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.rows import ColumnTable

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDER = "images"  # of the tables, in an artifact
_SUFFIX = ".arrow"
_HASHES = "perceptual_hash"
#: Columns that are read only on demand.
_LARGE = ("figures", _HASHES)
#: Types of the columns, which are the fields of a row, and of the fields of its findings.
_FIELDS = {field.name: str(field.type) for field in fields(ImageRow) if field.name != "image_bytes"}
_FINDING = {field.name: str(field.type) for field in fields(ImageFinding)}


def shard_path(uri: str, shard: int, shards: int) -> str:
    """Return the path of the rows of a shard, in the artifact at `uri`."""
    return f"{uri}/{_FOLDER}/images-{numbered(shard, shards)}{_SUFFIX}"


def write(file: str, rows: Sequence[ImageRow], large_from: str = "") -> None:
    """Write rows to a file, whole or not at all; a second attempt writes the same.

    Args:
        file: Path or URI of the file, whose folder is created if needed.
        rows: The rows.
        large_from: File with the same rows, of which measurements and perceptual hashes are taken;
            "" if `rows` has them.
    """
    import pyarrow as pa
    import tensorflow as tf

    tf.io.gfile.makedirs(file.rpartition("/")[0])
    table = as_table(rows, large_from)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    write_bytes(file, sink.getvalue().to_pybytes())


def as_table(rows: Sequence[ImageRow], large_from: str = "") -> pa.Table:
    """Return rows as a table of Arrow; see `write`."""
    import pyarrow as pa

    large = _open(large_from).select(_LARGE) if large_from else None
    columns = [
        large[field.name]
        if large is not None and field.name in _LARGE
        else pa.array([_stored(getattr(row, field.name)) for row in rows], field.type)
        for field in _schema()
    ]
    return pa.table(columns, _schema())


def read(file: str, with_findings: bool = False, with_figures: bool = False) -> list[ImageRow]:
    """Read the rows of a file, without perceptual hashes.

    Args:
        file: Path or URI of the file.
        with_findings: Whether to read only the images in which something was found or decided.
        with_figures: Whether to read measurements, too.

    Raises:
        ResourceError: The file cannot be read, or no component of a run wrote it.
    """
    table = _open(file).drop_columns([_HASHES] if with_figures else list(_LARGE))
    if with_findings:
        table = table.filter(_has_findings(table))
    columns = [_loaded(column) for column in table.columns]
    fields = table.column_names
    return [ImageRow(**dict(zip(fields, row, strict=True))) for row in zip(*columns, strict=True)]


def kept(uri: str) -> pa.Table:
    """Return the images of an artifact that are kept, without perceptual hashes; see `read`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.concat_tables([_open(file).drop_columns([_HASHES]) for file in files(uri)])
    findings = table["findings"].combine_chunks()
    rejects = pc.equal(pc.struct_field(pc.list_flatten(findings), "severity"), b"reject")
    is_kept = np.ones(len(table), np.bool_)
    is_kept[pc.list_parent_indices(findings).filter(rejects).to_numpy()] = False
    return table.filter(pa.array(is_kept))


def perceptual_hashes(file: str) -> Iterator[bytes]:
    """Yield the perceptual hashes of each row of a file; zeros for an image that has none."""
    for value in _open(file)[_HASHES]:
        yield value.as_py() or bytes(ALL_BYTES)


def files(uri: str) -> list[str]:
    """Return the paths of the tables of an artifact, in order; without one, a ResourceError."""
    if "://" not in uri:  # commands that read it need no TensorFlow
        paths = sorted(map(str, Path(uri, _FOLDER).glob(f"*{_SUFFIX}")))
    else:
        import tensorflow as tf

        paths = sorted(tf.io.gfile.glob(f"{uri}/{_FOLDER}/*{_SUFFIX}"))
    if not paths:
        raise ResourceError(
            f"{uri} has no table of images ({_FOLDER}/*{_SUFFIX}). Run the pipeline again."
        )
    return paths


def _open(file: str) -> pa.Table:
    """Return the table of a file."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(read_bytes(file)).read_all()
        table.validate(full=True)
        if not table.schema.equals(_schema()):
            raise ValueError("other columns")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResourceError(
            f"{file} is damaged ({type(error).__name__}: {error}). Expected the table that "
            "a run wrote. Run the pipeline again, which makes damaged artifacts anew."
        ) from error
    return table


def _has_findings(table: pa.Table) -> pa.ChunkedArray:
    """Return for which rows something was found or decided."""
    import pyarrow.compute as pc

    is_found = pc.greater(pc.list_value_length(table["findings"]), 0)
    is_reviewed = pc.greater(pc.binary_length(table["verdict"]), 0)
    return pc.or_(is_found, is_reviewed)


def _schema() -> pa.Schema:
    """Return the name and the type of Arrow of each column."""
    import pyarrow as pa

    kinds = {
        "str": pa.binary(),
        "bytes": pa.binary(),
        "Severity": pa.binary(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "Mapping[str, float]": pa.struct([(name, pa.float64()) for name in MEASUREMENTS]),
    }
    finding = pa.struct([(name, kinds[kind]) for name, kind in _FINDING.items()])
    kinds["tuple[ImageFinding, ...]"] = pa.list_(finding)
    return pa.schema([(name, kinds[kind]) for name, kind in _FIELDS.items()])


def _stored(value: Any) -> Any:
    """Return the value of a field as it is stored."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return dict(value) or None
    if isinstance(value, tuple):
        return [{name: _stored(getattr(finding, name)) for name in _FINDING} for finding in value]
    return value


def _loaded(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a field from those that are stored; equal texts are one object."""
    import pyarrow as pa

    if pa.types.is_binary(column.type):
        encoded = column.combine_chunks().dictionary_encode()
        texts = [_text(stored) for stored in encoded.dictionary.to_pylist()]
        return [texts[place] for place in encoded.indices.to_numpy().tolist()]
    if pa.types.is_list(column.type):
        return [tuple(map(_finding, findings)) for findings in column.to_pylist()]
    if pa.types.is_struct(column.type):
        return [figures or NOT_MEASURED for figures in column.to_pylist()]
    return column.to_numpy().tolist()


def _finding(stored: Mapping[str, bytes | float]) -> ImageFinding:
    values: dict[str, Any] = {
        name: _text(value) if isinstance(value, bytes) else value for name, value in stored.items()
    }
    return ImageFinding(**values)


@functools.lru_cache(1024)  # most findings have the same reasons and remedies
def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class ImageColumns(ColumnTable):
    """Images, as arrays [n].

    Attributes:
        hashes: Content hash of each image.
        paths: Its path in its source.
        splits: Its split.
        labels: Index of its label in the vocabulary.
        families: Name of its family: images of one family are not independent of each other.
        seen_family: Whether it is held out, and train has images of the same family.
        formats: Format of the file.
        widths: Width of the image in pixels.
        heights: Its height.
        brightness: Mean luminance, 0..1.
        sharpness: Lower is blurrier, 0..1.
    """

    hashes: Names
    paths: Array
    splits: Array
    labels: Integers
    families: Names
    seen_family: Flags
    formats: Names
    widths: Integers
    heights: Integers
    brightness: Floats
    sharpness: Floats

    @classmethod
    def of(cls, table: pa.Table) -> ImageColumns:
        """Return the columns of a table of rows; see `as_table`."""
        import pyarrow.compute as pc

        figures = table["figures"].combine_chunks()
        brightness, sharpness = (
            np.asarray(pc.struct_field(figures, name).fill_null(0), np.float32)
            for name in (names.BRIGHTNESS, names.SHARPNESS)
        )
        hashes = np.array(table["image_hash"].to_pylist(), np.bytes_)
        families = np.array(table["family"].to_pylist(), np.bytes_)
        paths = [path.decode("utf-8", "surrogateescape") for path in table["path"].to_pylist()]
        return ImageColumns(
            hashes=hashes,
            paths=np.array(paths, np.object_),
            splits=np.array(table["split"].to_pylist(), np.bytes_).astype(np.str_),
            labels=table["label_index"].to_numpy(),
            families=np.where(families == b"", hashes, families),
            seen_family=table["seen_family"].to_numpy(),
            formats=np.array(table["format"].to_pylist(), np.bytes_),
            widths=table["width"].to_numpy(),
            heights=table["height"].to_numpy(),
            brightness=brightness,
            sharpness=sharpness,
        )

    def find(self, hashes: Names) -> Self:
        """Return the images with these content hashes, in this order; see `kept_images`.

        Raises:
            ResourceError: There is no such image.
        """
        places = np.searchsorted(self.hashes, hashes)
        is_kept = places < len(self)
        is_kept[is_kept] = self.hashes[places[is_kept]] == hashes[is_kept]
        if not is_kept.all():
            raise ResourceError(
                f"the table of images has no image {hashes[~is_kept][0].decode()}, of which there "
                "are features or answers. Run the pipeline again."
            )
        return self.select(places)

    def placed(self, vocabulary: Sequence[str]) -> list[PlacedImage]:
        """Return the images as they are written as JSON; the vocabulary names their labels."""
        hashes = self.hashes.astype(str).tolist()
        columns = zip(self.paths, hashes, self.labels, self.splits.tolist(), strict=True)
        return [
            {"path": path, "image_hash": image_hash, "label": vocabulary[label], "split": split}
            for path, image_hash, label, split in columns
        ]


def kept_images(uri: str | None) -> ImageColumns:
    """Read the kept images of a quarantine, by content hash; there are none without a URI.

    Raises:
        ResourceError: There is no table, or it cannot be read.
    """
    images = ImageColumns.of(kept(uri) if uri else as_table([]))
    return images.select(np.argsort(images.hashes))
