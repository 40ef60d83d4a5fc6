"""TensorFlow Datasets as a source: `tfds:NAME[:SPLIT]`, prepared on disk or downloaded once.

The prepared record files are read directly, so that bytes, names and order are those on disk, and
each shard of a run reads only its own records. Without a network, a data set that is not prepared
is refused with an error that says where to put it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.splits import split_of
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.base import Item, SourceKind
from imgpipe.components.example_gen.sources.records import (
    Features,
    find_features,
    index,
    placed,
    read_locator,
)
from imgpipe.components.example_gen.sources.rows import RowsSource, SourceRow, SourceTable
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError, first_line
from imgpipe.models.finding import Finding

_EXPECTED = "expected tfds:NAME or tfds:NAME:SPLIT, such as tfds:cats_vs_dogs"
#: name[/config][:version][:split]; a version is three numbers.
_SPEC = re.compile(
    r"^(?P<name>[\w.-]+(/[\w.-]+)?(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?)(:(?P<split>.+))?$"
)


class TfdsSource(RowsSource):
    """A data set of labelled images from TensorFlow Datasets."""

    expected = "expected a labelled set of images"
    prefix = "tfds:"

    def tables(self) -> list[SourceTable]:
        """Read the prepared records once; see `RowsSource.tables`.

        Raises ConfigError if the data set is unknown, damaged or has no labelled images, and
        ResourceError if it is not prepared and cannot be downloaded.
        """
        match = _SPEC.match(self.locator)
        try:
            if match is None:
                raise ValueError("no such name")
            builder = _builder(match["name"], self.options.tfds_dir)
            features = self._features(builder)
            splits, notes = self._splits(builder, match["split"])
            class_names = getattr(builder.info.features[features.label], "names", None) or ()
            return [
                SourceTable(name, [*_rows(builder, features, name)], split, notes, class_names)
                for name, split in splits.items()
            ]
        except ImgpipeError:
            raise
        except Exception as error:  # TFDS uses a damaged description unchecked
            why = first_line(error).rstrip(".")
            raise ConfigError(
                f"data source {self.source!r} cannot be used: {why}; {_EXPECTED}. If it is "
                "prepared, remove its folder and prepare it again"
            ) from error

    def read_row(self, item: Item) -> bytes:
        """Read the encoded image of one record; see `Source.read`."""
        return read_locator(item.locator)

    def _features(self, builder: Any) -> Features:
        """Names of the features that hold the image, its label and its file name."""
        import tensorflow_datasets as tfds

        declared = builder.info.features
        keys = builder.info.supervised_keys or ("", "")
        images = [k for k, f in declared.items() if isinstance(f, tfds.features.Image)]
        labels = [k for k, f in declared.items() if isinstance(f, tfds.features.ClassLabel)]
        # Their types say more than their names.
        image = next((name for name in (keys[0], *images) if name in images), "")
        label = next((name for name in (keys[1], *labels) if name in declared), "")
        options = self.options.model_copy(
            update={
                "image_column": self.options.image_column or image,
                "label_column": self.options.label_column or label,
            }
        )
        features = find_features(self.source, list(declared), options)
        if features.image not in images or not features.label:
            raise ConfigError(
                f"data source {self.source!r} is not a labelled set of images: its features are "
                f" {join_names(list(declared), 12)}; name them by data.image_column and "
                "data.label_column"
            )
        return features

    def _splits(
        self, builder: Any, wanted: str | None
    ) -> tuple[dict[str, str | None], list[Finding]]:
        """Split by those of the data set, or by the slice; None where images are assigned."""
        split_names = sorted(builder.info.splits)
        if wanted is not None:
            try:
                builder.info.splits[wanted]
            except (KeyError, ValueError):
                raise ConfigError(
                    f"data source {self.source!r}: no split {wanted!r}; the set has "
                    f"{join_names(split_names, 12)}, and slices such as train[:10%]"
                ) from None
            return {wanted: None}, []
        ours = {name: split_of(name) for name in split_names if name.isalpha() and split_of(name)}
        if names.TRAIN not in ours.values():
            return dict.fromkeys(split_names), []
        detail = "neither train, validation nor test; name it to use it"
        notes = [noted("unused_split", name, detail) for name in split_names if name not in ours]
        # A set with train alone is divided by the rule of the run, like folders of classes.
        return dict(ours if len(ours) > 1 else dict.fromkeys(ours)), notes


def _rows(builder: Any, features: Features, name: str) -> Iterator[SourceRow]:
    """Yield the records of one split, in the order of its files, with the names of classes."""
    feature = builder.info.features[features.label]
    is_class = hasattr(feature, "int2str")
    # Slices such as train[:10%] would make odd names of folders.
    folder = re.sub(r"[^\w.+-]", "_", name)
    number = 0
    for part in builder.info.splits[name].file_instructions:
        file = str(part.filename)
        for row in index(file, features, file)[part.skip : part.skip + part.take]:
            label = row.label
            if label.isdecimal() and is_class:
                is_known = int(label) < (feature.num_classes or 0)
                label = feature.int2str(int(label)) if is_known else ""
            yield placed(row, folder, number)._replace(label=label, split="")
            number += 1


@functools.lru_cache(maxsize=8)
def _builder(name: str, folder: str) -> Any:
    """Return the builder of a prepared data set; ResourceError when it cannot be prepared."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=folder or None)
    if builder.is_prepared():
        return builder
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except Exception as error:  # downloads, checksums, disks and builders fail in many ways
        why = first_line(error).rstrip(".")
        raise ResourceError(
            f"the data set 'tfds:{name}' is not prepared in {builder.data_dir} and cannot be "
            f"downloaded: {why}. On a machine with network run `tfds build {name}` "
            f"(from the package tensorflow-datasets), then copy its folder "
            f"{builder.info.full_name} from ~/tensorflow_datasets to {builder.data_dir}; another "
            "folder is named by data.tfds_dir or TFDS_DATA_DIR."
        ) from error
    return builder


KINDS = (SourceKind("tfds", TfdsSource, is_path=False),)
