"""The kept images of a run in columns: what is asked of an image by its content hash.

The table that ImageFilter has written tells path, split, family and measurements of an image.
Features and answers are stored by content hash and joined with it here.
Of identical files only one is kept, so a hash names one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from imgpipe.components.common import row_files
from imgpipe.components.common.image_row import PlacedImage
from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Floats, Integers, Names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.rows import ColumnTable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ImageColumns(ColumnTable):
    """Images, as arrays [n].

    Attributes:
        hashes: Content hash of each image.
        paths: Its path in its source.
        splits: Its split.
        labels: Index of its label in the vocabulary.
        groups: The group of the source, or the family that was found; b"" for none.
        near: Number of its group of near-duplicates; 0 for none.
        seen_family: Whether train has images of the same family.
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
    groups: Names
    near: Integers
    seen_family: Flags
    formats: Names
    widths: Integers
    heights: Integers
    brightness: Floats
    sharpness: Floats

    @classmethod
    def of(cls, table: pa.Table) -> ImageColumns:
        """Return the columns of a table of rows; see `row_files.as_table`."""
        import pyarrow.compute as pc

        figures = table["figures"].combine_chunks()
        brightness, sharpness = (
            np.asarray(pc.struct_field(figures, name).fill_null(0), np.float32)
            for name in (names.BRIGHTNESS, names.SHARPNESS)
        )
        paths = [path.decode("utf-8", "surrogateescape") for path in table["path"].to_pylist()]
        return ImageColumns(
            hashes=np.array(table["image_hash"].to_pylist(), np.bytes_),
            paths=np.array(paths, np.object_),
            splits=np.array(table["split"].to_pylist(), np.bytes_).astype(np.str_),
            labels=table["label_index"].to_numpy(),
            groups=np.array(table["group"].to_pylist(), np.bytes_),
            near=table["near_group"].to_numpy(),
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
    images = ImageColumns.of(row_files.kept(uri) if uri else row_files.as_table([]))
    return images.select(np.argsort(images.hashes))
