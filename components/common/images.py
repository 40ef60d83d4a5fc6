"""The table of images: a row for each file of the source, as a pandas frame.

ImageExampleGen writes what was read beside its Examples, and ImageFilter the same rows with what it
has decided into the quarantine. There is a file of Arrow for each shard of Examples, in the order
of its records:

    images/images-00000-of-00004.arrow

Text is stored as UTF-8 bytes, as in Examples, so that any name of a file can be stored.
Measurements and perceptual hashes are most of a table, and few ask for them, so that they are read
only on demand. What was found in the images is beside the table; see `FileFinding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.components.common.image_file.content import NOT_MEASURED
from imgpipe.components.common.image_file.pixels import ALL_BYTES, MEASUREMENTS
from imgpipe.components.common.image_row import ImageRow, PlacedImage
from imgpipe.components.common.storage.records import numbered, read_bytes, write_bytes
from imgpipe.models.arrays import Array, Names
from imgpipe.models.errors import ResourceError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_FOLDER: Final = "images"  # of the tables, in an artifact
_SUFFIX: Final = ".arrow"
_HASHES: Final = "perceptual_hash"
#: The columns that are fields of `ImageRow`, by name, with their types.
READ: Final[Mapping[str, type]] = {
    **dict.fromkeys(("path", "label", "split", "image_hash", "group"), str),
    **dict.fromkeys(("label_index", "byte_size"), int),
    **dict.fromkeys(("read_error", "problem", "problem_detail"), str),
    # The header of the file, and its content.
    **dict.fromkeys(("width", "height", "channels", "frames", "jpeg_tables", "captured"), int),
    **dict.fromkeys(("format", "mode", "subsampling", "camera", "hidden_cost"), str),
    **dict.fromkeys(("decode_error", "converted", "unread", "remedy", "damage"), str),
    **dict.fromkeys(("bands", "bits"), int),
    "is_grey": bool,
}
#: The columns that the filter fills. The label, the split and the group above may be others, too.
#:
#:     reason        why the file is rejected; "" for an image that is kept
#:     verdict       what a person has decided about it; "" without a decision
#:     source_label  its label in the source, and source_index its index in the vocabulary
#:     repairs       "transcoded" where it is stored as PNG instead of the file as found
#:     is_family     whether the group is a family that was found
#:     near_group    number of its group of near-duplicates, from 1 on; 0 for none
#:     family        name of the images that are not independent of each other: those of one group,
#:                   and near-duplicates, also over several steps. It is the smallest hash among
#:                   them, which is its own where it is alone
#:     seen_family   whether it is held out, and train keeps an image of its family
#:     stored        path of the stored bytes of a rejected file, relative to the quarantine
DECIDED: Final[Mapping[str, type]] = {
    **dict.fromkeys(("reason", "verdict", "source_label", "repairs", "family", "stored"), str),
    **dict.fromkeys(("source_index", "near_group"), int),
    **dict.fromkeys(("is_family", "seen_family"), bool),
}
COLUMNS: Final[Mapping[str, type]] = {**READ, **DECIDED}
_TYPES: Final = {str: object, int: np.int64, bool: np.bool_}


def frame(rows: Iterable[ImageRow], large: bool = False) -> pd.DataFrame:
    """Return the table of rows, of which one is in memory at a time.

    Args:
        rows: The rows.
        large: Whether the table has measurements, which are NaN where a file was not decoded, and
            perceptual hashes.
    """
    values: dict[str, list[Any]] = {name: [] for name in READ}
    figures: dict[str, list[float]] = {name: [] for name in MEASUREMENTS} if large else {}
    hashes: list[bytes] = []
    for row in rows:
        for name, column in values.items():
            column.append(getattr(row, name))
        for name, measured in figures.items():
            measured.append(row.figures.get(name, np.nan))
        hashes += [row.perceptual_hash] if large else []
    return table(values | figures | ({_HASHES: hashes} if large else {}))


def table(values: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return a table of these columns; those of `COLUMNS` that are missing are empty."""
    import pandas as pd

    count = len(next(iter(values.values())))
    columns: dict[str, Array] = {
        name: np.array([*values.get(name, [kind()] * count)], _TYPES[kind])
        for name, kind in COLUMNS.items()
    }
    others = {name: column for name, column in values.items() if name not in COLUMNS}
    return pd.DataFrame({**columns, **others})


def rows(images: pd.DataFrame) -> Iterator[ImageRow]:
    """Yield the rows of a table, without perceptual hashes."""
    for row in images.itertuples():
        figures = {name: getattr(row, name) for name in MEASUREMENTS if hasattr(row, name)}
        is_measured = bool(figures) and not np.isnan(figures[next(iter(MEASUREMENTS))])
        values = {name: getattr(row, name) for name in READ}
        yield ImageRow(**values, figures=figures if is_measured else NOT_MEASURED)


def shard_path(uri: str, shard: int, shards: int) -> str:
    """Return the path of the table of a shard, in the artifact at `uri`."""
    return f"{uri}/{_FOLDER}/images-{numbered(shard, shards)}{_SUFFIX}"


def write(file: str, images: pd.DataFrame, large_from: str = "") -> None:
    """Write a table to a file, whole or not at all; a second attempt writes the same.

    Args:
        file: Path or URI of the file, whose folder is created if needed.
        images: The table.
        large_from: File with the same rows, of which measurements and perceptual hashes are taken;
            "" if the table has them, or there are none.
    """
    import pyarrow as pa
    import tensorflow as tf

    tf.io.gfile.makedirs(file.rpartition("/")[0])
    large = _open(large_from) if large_from else None
    columns = [
        large[field.name]
        if large is not None and field.name not in COLUMNS
        else pa.array(_stored(images, field.name), field.type)
        for field in _schema()
    ]
    stored = pa.table(columns, _schema())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, stored.schema) as writer:
        writer.write_table(stored)
    write_bytes(file, sink.getvalue().to_pybytes())


def _stored(images: pd.DataFrame, name: str) -> Sequence[Any] | Array:
    """Return the values of a column as they are stored; null for what is not known."""
    if name not in images:
        return [None] * len(images)
    if COLUMNS.get(name) is str:
        return [text.encode("utf-8", "surrogateescape") for text in images[name]]
    if name == _HASHES:
        return [*images[name]]
    values: Array = images[name].to_numpy()
    return values


def read_file(file: str, figures: bool = False) -> pd.DataFrame:
    """Read the table of a shard, without perceptual hashes.

    Args:
        file: Path or URI of the file.
        figures: Whether to read the measurements, too.

    Raises:
        ResourceError: The file cannot be read, or no component of a run wrote it.
    """
    import pandas as pd

    stored = _open(file)
    names = [*COLUMNS, *(MEASUREMENTS if figures else ())]
    return pd.DataFrame({name: _loaded(stored[name]) for name in names})


def read(uri: str, figures: bool = False) -> pd.DataFrame:
    """Read the table of an artifact; see `read_file`."""
    import pandas as pd

    parts = [read_file(file, figures) for file in files(uri)]
    return pd.concat(parts, ignore_index=True)


def kept(uri: str | None) -> pd.DataFrame:
    """Read the images of a quarantine that are kept, with their measurements.

    The index is the content hash, by which they are sorted: of identical files only one is kept.
    There are none without a URI. The errors are those of `read_file`.
    """
    images = read(uri, figures=True) if uri else frame((), large=True)
    images = images[images["reason"] == ""]
    return images.set_index(images["image_hash"].rename(None)).sort_index()


def find(images: pd.DataFrame, hashes: Names) -> pd.DataFrame:
    """Return the images with these content hashes, in this order, of those of `kept`.

    Raises:
        ResourceError: There is no such image.
    """
    places = images.index.get_indexer(hashes.astype(np.str_))
    if (places < 0).any():
        missing = hashes[places < 0][0].decode()
        raise ResourceError(
            f"the table of images has no image {missing}, of which there are features or answers. "
            "Run the pipeline again."
        )
    return images.iloc[places]


def placed(images: pd.DataFrame) -> list[PlacedImage]:
    """Return images as all lists have them."""
    columns = (images[name] for name in PlacedImage.__annotations__)
    return [
        {"path": path, "image_hash": image_hash, "label": label, "split": split}
        for path, image_hash, label, split in zip(*columns, strict=True)
    ]


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
        stored = pa.ipc.open_file(read_bytes(file)).read_all()
        stored.validate(full=True)
        if not stored.schema.equals(_schema()):
            raise ValueError("other columns")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResourceError(
            f"{file} is damaged ({type(error).__name__}: {error}). Expected the table that "
            "a run wrote. Run the pipeline again, which makes damaged artifacts anew."
        ) from error
    return stored


def _schema() -> pa.Schema:
    """Return the name and the type of Arrow of each column."""
    import pyarrow as pa

    kinds = {str: pa.binary(), int: pa.int64(), bool: pa.bool_()}
    columns = [(name, kinds[kind]) for name, kind in COLUMNS.items()]
    figures = [(name, pa.float64()) for name in MEASUREMENTS]
    return pa.schema([*columns, *figures, (_HASHES, pa.binary())])


def _loaded(column: pa.ChunkedArray) -> Array:
    """Return the values of a column; equal texts are one object."""
    import pyarrow as pa

    if not pa.types.is_binary(column.type):
        values: Array = column.to_numpy()
        return values
    encoded = column.combine_chunks().dictionary_encode()
    texts = [text.decode("utf-8", "surrogateescape") for text in encoded.dictionary.to_pylist()]
    return np.array(texts, np.object_)[encoded.indices.to_numpy()]
