"""TensorFlow Datasets as a source: `tfds:NAME[:SPLIT]`, prepared on disk or downloaded once.

The prepared record files are read directly, so that bytes, names and order are those on disk, and
each shard of a run reads only its own records. Without a network, a data set that is not prepared
is refused with an error that says where to put it.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.splits import split_of
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources import tables
from imgpipe.components.example_gen.sources.images import FileReader, Listing
from imgpipe.components.example_gen.sources.records import find_features, numbered, read_rows
from imgpipe.components.example_gen.sources.tables import SourceRow, SourceTable
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError, first_line
from imgpipe.models.settings.data import DataSettings

#: Begins the spec of a data set.
PREFIX: Final = "tfds:"
_EXPECTED = "expected tfds:NAME or tfds:NAME:SPLIT, such as tfds:cats_vs_dogs"
#: name[/config][:version][:split]; a version is three numbers.
_SPEC = re.compile(
    r"^(?P<name>[\w.-]+(/[\w.-]+)?(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?)(:(?P<split>.+))?$"
)


def list_tfds(name: str, options: DataSettings) -> Listing:
    """List the images of a prepared data set.

    Args:
        name: What follows `tfds:` in the spec.
        options: Settings of the source.

    Raises:
        ConfigError: The data set is unknown, damaged or has no labelled images.
        ResourceError: It is not prepared and cannot be downloaded.
    """
    source = f"{PREFIX}{name}"
    listing = Listing(source, FileReader("/", follow_links=True), "expected a labelled set")
    match = _SPEC.match(name)
    try:
        if match is None:
            raise ValueError("no such name")
        builder = _builder(match["name"], options.tfds_dir)
        features = _features(source, builder, options)
        splits = _splits(source, builder, match["split"], listing.notes)
        listing.classes |= set(getattr(builder.info.features[features["label"]], "names", ()) or ())
        read = [
            SourceTable(part, [*_rows(builder, features, part)], split)
            for part, split in splits.items()
        ]
        tables.add_rows(listing, read, options)
        return listing
    except ImgpipeError:
        raise
    except Exception as error:  # TFDS uses a damaged description unchecked
        why = first_line(error).rstrip(".")
        raise ConfigError(
            f"data source {source!r} cannot be used: {why}; {_EXPECTED}. If it is prepared, remove "
            "its folder and prepare it again"
        ) from error


def _features(source: str, builder: Any, options: DataSettings) -> dict[str, str]:
    """Return the features of the image, its label and its file name; their types say the most."""
    import tensorflow_datasets as tfds

    declared = builder.info.features
    keys = builder.info.supervised_keys or ("", "")
    images = [k for k, f in declared.items() if isinstance(f, tfds.features.Image)]
    labels = [k for k, f in declared.items() if isinstance(f, tfds.features.ClassLabel)]
    image = next((name for name in (keys[0], *images) if name in images), "")
    label = next((name for name in (keys[1], *labels) if name in declared), "")
    chosen = options.model_copy(
        update={
            "image_column": options.image_column or image,
            "label_column": options.label_column or label,
        }
    )
    features = find_features(source, list(declared), chosen)
    if features["image"] not in images or not features["label"]:
        raise ConfigError(
            f"data source {source!r} is not a labelled set of images: its features are "
            f"{join_names(list(declared), 12)}; name them by data.image_column and "
            "data.label_column"
        )
    return {**features, "split": ""}


def _splits(source: str, builder: Any, wanted: str | None, notes: Notes) -> dict[str, str | None]:
    """Return the parts to read with their splits; None where images are assigned."""
    split_names = sorted(builder.info.splits)
    if wanted is not None:
        try:
            builder.info.splits[wanted]
        except (KeyError, ValueError):
            raise ConfigError(
                f"data source {source!r}: no split {wanted!r}; the set has "
                f"{join_names(split_names, 12)}, and slices such as train[:10%]"
            ) from None
        return {wanted: None}
    ours = {name: split_of(name) for name in split_names if name.isalpha() and split_of(name)}
    if names.TRAIN not in ours.values():
        return dict.fromkeys(split_names)
    for name in split_names:
        if name not in ours:
            notes.add("unused_split", name, "neither train, validation nor test; name it to use it")
    # A set with train alone is divided by the rule of the run, like folders of classes.
    return dict(ours if len(ours) > 1 else dict.fromkeys(ours))


def _rows(builder: Any, features: dict[str, str], part: str) -> Iterator[SourceRow]:
    """Yield the records of one split, in the order of its files, with the names of classes."""
    feature = builder.info.features[features["label"]]
    is_class = hasattr(feature, "int2str")
    # Slices such as train[:10%] would make odd names of folders.
    folder = re.sub(r"[^\w.+-]", "_", part)
    number = 0
    for instruction in builder.info.splits[part].file_instructions:
        file = Path(str(instruction.filename))
        rows = read_rows(file, str(file), features)
        for row in itertools.islice(rows, instruction.skip, instruction.skip + instruction.take):
            label = row.label
            if label.isdecimal() and is_class:
                is_known = int(label) < (feature.num_classes or 0)
                label = feature.int2str(int(label)) if is_known else ""
            yield numbered(row, folder, number)._replace(label=label)
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
