"""TensorFlow Datasets as a source: `tfds:NAME[:SPLIT]`, prepared on disk or fetched once.

The prepared record files are read directly, so that bytes, names and order are those on disk and
each shard of a run reads its own records. Without network, what is not prepared is refused with
what to fetch and where to put it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from imgpipe.components.example_gen.sources.base import (
    Item,
    Note,
    Scan,
    SourceOptions,
    hashed,
    sorted_notes,
)
from imgpipe.components.example_gen.sources.layout import SPLIT_WORDS, in_order, some
from imgpipe.components.example_gen.sources.record_files import PATH_FEATURES, Fields, index
from imgpipe.components.example_gen.sources.tfrecord import read_locator, to_item
from imgpipe.components.example_gen.sources.tree import check_classes
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, ResourceError

_REACH_SECONDS = 5.0  # to connect to a host; the downloader itself tries for minutes
_EXPECTED = "expected tfds:NAME or tfds:NAME:SPLIT, such as tfds:cats_vs_dogs"
#: name[/config][:version][:split]; a version is three numbers.
_SPEC = re.compile(
    r"^(?P<name>[\w.-]+(/[\w.-]+)?(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?)(:(?P<split>.+))?$"
)


def load() -> Any:
    """The package `tensorflow_datasets`, imported when it is needed."""
    import tensorflow_datasets

    return tensorflow_datasets


@dataclass(frozen=True)
class TfdsSource:
    """A labelled image set of TensorFlow Datasets."""

    locator: str
    options: SourceOptions

    def listing(self) -> Scan:
        """One pass over the prepared records; see `Source.listing`.

        Raises ResourceError when the set is not prepared and cannot be fetched.
        """
        builder, wanted = self._open()
        image, label = self._keys(builder)
        fields = Fields(image, label, _path_feature(builder))
        splits, notes = self._splits(builder, wanted)
        items: list[Item] = []
        for name, split in splits.items():
            items += self._items(builder, fields, name, split)
        class_names = getattr(builder.info.features[label], "names", None) or ()
        held = {item.label for item in items if item.label}
        notes += [Note("empty_class", c, "no image in it") for c in class_names if c not in held]
        scan = Scan(
            source=f"tfds:{self.locator}",
            items=tuple(sorted(items, key=lambda item: item.path)),
            vocabulary=tuple(sorted(held | set(class_names))),
            given_splits=in_order({split for split in splits.values() if split}),
            notes=sorted_notes(notes),
        )
        check_classes(scan, "expected a labelled set of images")
        return scan

    def scan(self) -> Scan:
        """List and hash the images; see `Source.scan`."""
        return hashed(self.listing(), lambda item: hashlib.sha256(self.read(item)).hexdigest())

    def read(self, item: Item) -> bytes:
        """The image as encoded on disk."""
        return read_locator(item.locator)

    def _open(self) -> tuple[Any, str | None]:
        match = _SPEC.match(self.locator)
        if match is None:
            raise ConfigError(f"data source 'tfds:{self.locator}': {_EXPECTED}")
        return _builder(match["name"], self.options.tfds_dir), match["split"]

    def _keys(self, builder: Any) -> tuple[str, str]:
        """Names of the image and of the label feature."""
        tfds = load()
        features = builder.info.features
        image, label = builder.info.supervised_keys or ("", "")
        images = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
        labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
        image = self.options.image_column or (image if image in images else "".join(images[:1]))
        label = self.options.label_column or (label if label in features else "".join(labels[:1]))
        if image not in images or label not in features:
            raise ConfigError(
                f"data source 'tfds:{self.locator}' is no labelled set of images: its features are "
                f"{some(list(features), 12)}; name them by data.image_column and data.label_column"
            )
        return image, label

    def _splits(self, builder: Any, wanted: str | None) -> tuple[dict[str, str | None], list[Note]]:
        """Split or slice of the set → split of ours; None where it is to be drawn."""
        known = sorted(builder.info.splits)
        if wanted is not None:
            try:
                builder.info.splits[wanted]
            except (KeyError, ValueError):
                raise ConfigError(
                    f"data source 'tfds:{self.locator}': no split {wanted!r}; the set has "
                    f"{some(known, 12)}, and slices such as train[:10%]"
                ) from None
            return {wanted: None}, []
        ours = {name: SPLIT_WORDS[name] for name in known if name in SPLIT_WORDS}
        if not ours or names.TRAIN not in ours.values():
            return dict.fromkeys(known), []
        notes = [
            Note("unused_split", name, "neither train, validation nor test; name it to use it")
            for name in known
            if name not in ours
        ]
        return dict(ours if len(ours) > 1 else dict.fromkeys(ours)), notes

    def _items(self, builder: Any, fields: Fields, name: str, split: str | None) -> Iterator[Item]:
        """The records of one split, in the order of its files."""
        feature = builder.info.features[fields.label]
        folder = re.sub(r"[^\w.+-]", "_", name)
        number = 0
        for part in builder.info.splits[name].file_instructions:
            file = str(part.filename)
            for entry in index(file, fields)[part.skip : part.skip + part.take]:
                label = entry.label
                if isinstance(label, int) and hasattr(feature, "int2str"):
                    known = 0 <= label < (feature.num_classes or 0)
                    label = feature.int2str(label) if known else None
                shown = None if label is None else str(label)
                item = to_item(f"{folder}/{number:08d}", file, replace(entry, label=shown), fields)
                yield replace(item, split=split)
                number += 1


def _path_feature(builder: Any) -> str:
    """The feature that holds the image's file name, "" for none."""
    return next((name for name in PATH_FEATURES if name in builder.info.features), "")


@functools.lru_cache(maxsize=8)
def _builder(name: str, folder: str) -> Any:
    """The prepared set; ConfigError for an unknown name, ResourceError when it is not there."""
    tfds = load()
    try:
        with _silent():
            builder = tfds.builder(name, data_dir=folder or None)
            prepared = builder.is_prepared()
    except (tfds.core.DatasetNotFoundError, ValueError, AttributeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"data source 'tfds:{name}': {first}; {_EXPECTED}") from None
    if not prepared:
        _prepare(tfds, builder, name)
    return builder


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without TFDS's warning of a folder that is not there yet: the error that follows says it."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _prepare(tfds: Any, builder: Any, name: str) -> None:
    """Fetch and prepare a set; ResourceError, without a long wait, when that cannot be."""
    addresses = {url: str(info.size) for url, info in _addresses(builder).items()}
    down = _unreachable(list(addresses))
    if down:
        raise _missing(builder, name, addresses, f"no connection to {down}")
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except Exception as error:  # downloads, checksums, disks and builders fail in many ways
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise _missing(builder, name, addresses, text[0]) from error


def _addresses(builder: Any) -> dict[str, Any]:
    try:
        return dict(builder.url_infos)
    except Exception:  # a set without a list of addresses
        return {}


def _unreachable(addresses: list[str]) -> str:
    """The first host that does not answer, "" when all do or when a proxy stands between."""
    if urllib.request.getproxies():
        return ""
    hosts = {(url.hostname, url.port, url.scheme) for url in map(urllib.parse.urlparse, addresses)}
    for host, port, scheme in sorted(hosts, key=str):
        if not host:
            continue
        try:
            target = (host, port or (80 if scheme == "http" else 443))
            socket.create_connection(target, _REACH_SECONDS).close()
        except OSError:
            return host
    return ""


def _missing(builder: Any, name: str, addresses: dict[str, str], why: str) -> ResourceError:
    listed = [f"{url} ({size})" for url, size in addresses.items()]
    fetch = f"It is made from {some(listed, 4)}. " if listed else ""
    return ResourceError(
        f"the data set 'tfds:{name}' is not prepared in {builder.data_dir} and cannot be fetched: "
        f"{why}. {fetch}On a machine with network run `tfds build {name}` (from the package "
        f"tensorflow-datasets), then copy its folder {builder.info.full_name} from "
        f"~/tensorflow_datasets to {builder.data_dir}; another folder is named by data.tfds_dir or "
        "TFDS_DATA_DIR."
    )
