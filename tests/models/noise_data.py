"""Images of noise whose brightness depends on their class, which even a small network learns."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from imgpipe.models import names
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.rows import Labelled
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training.stages import Inputs
from tests.images import encoded, noise
from tests.models.banks import bank_row, write_examples, write_facts, write_records
from tests.network_settings import network_settings

SIZE = 32
CUT = "pool2"
TRAIN, VALIDATION = 36, 24  # labelled images
SETTINGS = network_settings(
    backbone="conv_8_8_8",
    weights="none",
    freeze="all",
    image_size=SIZE,
    views={"count": 1},
    fine_tune={"cut": CUT, "batch_size": 16},
)
EXTRACTOR = FeatureExtractor(SETTINGS, "float32", CUT)


def image(label: int, seed: int) -> bytes:
    return encoded(60 * label + noise(seed, (36, 40)) % 100)


def write_images(
    folder: Path,
    family_of: Callable[[str, int, int], bytes] = lambda split, i, label: b"",
) -> Path:
    """Write images by split, some of one family, which is named by split, number and label."""
    for split, count, first in ((names.TRAIN, TRAIN + 1, 0), (names.VALIDATION, VALIDATION, 100)):
        rows: list[dict[str, object]] = []
        for i in range(count):
            content = image(i % 3, first + i)
            digest = hashlib.sha256(content).hexdigest().encode()
            label = -1 if i == TRAIN else i % 3
            row = {names.IMAGE_BYTES: content, names.IMAGE_HASH: digest}
            family = {names.FAMILY: family_of(split, i, label)}
            rows.append({**row, **family, names.LABEL_INDEX: label})
        write_records(folder / f"{split}-00000", rows)
    return folder


def write_features(examples: Path, folder: Path) -> str:
    """Write a bank of the images as FeatureBank does, and return its path."""
    extractor = FeatureExtractor(SETTINGS, "float32")
    rows = []
    for split, views in ((names.TRAIN, [0, 1]), (names.VALIDATION, [0])):
        images = Labelled.read([str(examples / f"{split}-*")])
        for places, files in images.values(names.IMAGE_BYTES):
            hashes = [images.hashes[place].decode() for place in places]
            found = extractor.extract(files.tolist(), hashes, [views] * len(hashes))
            for digest, place, vectors in zip(hashes, places, found, strict=True):
                label = int(images.labels[place])
                family = {names.FAMILY: images.families[place]}
                for view, vector in zip(views, vectors, strict=True):
                    rows.append((split, bank_row(digest, label, vector, view) | family))
    write_examples(folder, rows)
    kind = extractor.settings.largest_kind
    write_facts(folder, extractor.sizes, features=kind, image_size=SETTINGS.size)
    return str(folder)


def half_in_train(split: str, i: int, label: int) -> bytes:
    """Return the family of an image; train has those of every second validation image."""
    return f"{i}".encode() if split == names.TRAIN or i % 2 else f"{split} {i}".encode()


def grouped(
    folder: Path,
    family_of: Callable[[str, int, int], bytes],
    settings: Settings = SETTINGS,
) -> Inputs:
    """Return inputs with families, by split, number and label."""
    images = write_images(folder / "examples", family_of)
    return inputs(images, write_features(images, folder), settings)


def inputs(examples: Path, bank: str, settings: Settings, **changed: object) -> Inputs:
    files = [[str(examples / f"{split}-*")] for split in (names.TRAIN, names.VALIDATION)]
    return Inputs(network_settings(settings, **changed), 3, bank, *files)
