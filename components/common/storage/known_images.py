"""The images of the run that made a version: which it knows, and which it was trained on.

ModelPusher stores the list beside the model, and Baseline passes it on, so that two models are
compared on images that neither was trained on, and new images are told from known ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imgpipe.components.common.storage import records
from imgpipe.models.features.examples import columns
from imgpipe.models.names import feature_names as names

FILE = "images.txt"
#: Hexadecimal digits of a content hash that are kept: two of a million images share them with a
#: probability of 1 in 37 million.
_DIGITS = 16


def text(uri: str) -> str:
    """List the images in the Examples at `uri`: a line for each with its short hash and split."""
    return "".join(
        sorted(
            f"{short(image_hash.decode())} {split}\n"
            for split in names.SPLITS
            for batch in columns(records.shard_files(uri, split), names.IMAGE_HASH)
            for image_hash in batch[names.IMAGE_HASH].tolist()
        )
    )


def read(file: Path) -> Mapping[str, str] | None:
    """Return the split of each known image by its short hash; None for versions without a list."""
    if not file.is_file():
        return None
    # People may change the file; a line that is no digest fits no image.
    lines = (line.partition(" ") for line in file.read_text("ascii", "replace").splitlines())
    return {digits: split for digits, _, split in lines}


def short(image_hash: str) -> str:
    """Shorten a content hash as the list has it."""
    return image_hash[:_DIGITS]
