"""Images of noise whose brightness depends on their class, and a bank of their features.

Even a small network with random weights learns them. One training image has no label.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imgpipe.models import names
from imgpipe.models.features.examples import Labelled
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.training.stages import Inputs
from tests.images import encoded, noise
from tests.models.banks import write_facts

SIZE = 32
CUT = "pool2"
TRAIN, VALIDATION = 36, 24  # labelled images
SETTINGS = ModelSettings.from_mapping(
    {
        "backbone": "conv_8_8_8",
        "weights": "none",
        "freeze": "all",
        "image_size": SIZE,
        "views": {"count": 1},
        "fine_tune": {"cut": CUT, "batch_size": 16},
    }
)
EXTRACTOR = FeatureExtractor(SETTINGS, "float32", CUT)


def image(label: int, seed: int) -> bytes:
    """Return a PNG image of noise whose brightness depends on its label."""
    return encoded(60 * label + noise(seed, (36, 40)) % 100)


def write_images(folder: Path, write_records: Callable[..., str]) -> Path:
    """Write TFRecord files of images of both splits into a folder, and return it."""
    for split, count, first in ((names.TRAIN, TRAIN + 1, 0), (names.VALIDATION, VALIDATION, 100)):
        rows: list[dict[str, object]] = []
        for i in range(count):
            content = image(i % 3, first + i)
            digest = hashlib.sha256(content).hexdigest().encode()
            label = -1 if i == TRAIN else i % 3
            row = {names.IMAGE_BYTES: content, names.IMAGE_HASH: digest}
            rows.append({**row, names.LABEL_INDEX: label})
        write_records(folder / f"{split}-00000", rows)
    return folder


def write_features(
    examples: Path,
    folder: Path,
    write_records: Callable[..., str],
    group_of: Callable[[str, int, int], bytes] = lambda split, i, label: b"",
) -> str:
    """Write a bank of the images as FeatureBank does, and return its path.

    Args:
        examples: Folder of the images.
        folder: Folder of the bank.
        write_records: The fixture.
        group_of: Group of an image by its split, its number and its label.
    """
    extractor = FeatureExtractor(SETTINGS, "float32")
    for split, views in ((names.TRAIN, [0, 1]), (names.VALIDATION, [0])):
        images = Labelled.read([str(examples / f"{split}-*")])
        rows: list[dict[str, object]] = []
        for places, files in images.values(names.IMAGE_BYTES):
            hashes = [images.hashes[place].decode() for place in places]
            found = extractor.extract(files.tolist(), hashes, [views] * len(hashes))
            for place, vectors in zip(places, found, strict=True):
                label = int(images.labels[place])
                row: dict[str, object] = {
                    names.IMAGE_HASH: bytes(images.hashes[place]),
                    names.LABEL_INDEX: label,
                    names.GROUP: group_of(split, len(rows) // len(views), label),
                }
                values = zip(views, vectors, strict=True)
                rows += [{**row, names.VIEW: v, names.FEATURES: x.tobytes()} for v, x in values]
        write_records(folder / f"Split-{split}" / "data_tfrecord-00000-of-00001", rows)
    write_facts(
        folder, extractor.sizes, features=extractor.settings.largest_kind, image_size=SETTINGS.size
    )
    return str(folder)


def inputs(examples: Path, bank: str, settings: ModelSettings, **changed: object) -> Inputs:
    """Return the inputs of a training with these settings, some of which are changed."""
    files = [[str(examples / f"{split}-*")] for split in (names.TRAIN, names.VALIDATION)]
    return Inputs(replace(settings, **changed), 3, bank, *files)
