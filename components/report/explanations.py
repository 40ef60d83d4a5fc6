"""Grad-CAM of the confident mistakes: the parts of an image that led to the wrong class."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from imgpipe.components.image_file.header import pillow
from imgpipe.components.report.sections.accuracy import cam_key
from imgpipe.components.report.thumbnails import SIDE, shrunk

#: Mistakes of each split that are explained; each costs a forward and a backward pass.
EXPLAINED = 12
_BATCH = 8  # images whose feature maps are in memory at once
_QUALITY = 80
_log = logging.getLogger(__name__)


def encoded_cams(
    model: str, images: Mapping[str, bytes], wanted: Iterable[str]
) -> dict[str, bytes]:
    """Draw the images under the Grad-CAM map of their predicted class.

    An explanation that fails is left out, because the page is worth more than its explanations.

    Args:
        model: Folder of the SavedModel.
        images: Encoded images by hash.
        wanted: Hashes of the images to explain; those that are not in `images` are skipped.

    Returns:
        JPEG files by `sections.accuracy.cam_key`.
    """
    chosen = [digest for digest in wanted if digest in images]
    if not chosen:
        return {}
    try:
        return dict(_drawn(model, {digest: images[digest] for digest in chosen}))
    except Exception:
        _log.exception("the mistakes could not be explained with Grad-CAM")
        return {}


def _drawn(model: str, images: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    from imgpipe.components import loaded_model
    from imgpipe.models.export.signatures import CAM
    from imgpipe.models.network import activation_images

    served = loaded_model.served(model, (CAM,), CAM)
    try:
        hashes = list(images)
        for start in range(0, len(hashes), _BATCH):
            batch = hashes[start : start + _BATCH]
            cams = served.run(image_bytes=np.array([images[one] for one in batch], object))[CAM]
            for digest, cam in zip(batch, cams, strict=True):
                pixels = _pixels(images[digest])
                if pixels is not None:
                    out = io.BytesIO()
                    overlay = activation_images.overlay(pixels, cam)
                    Image.fromarray(overlay).save(out, "JPEG", quality=_QUALITY)
                    yield cam_key(digest), out.getvalue()
    finally:
        served.close()


def _pixels(data: bytes) -> Any:
    """Return an image at the size of a thumbnail, uint8 [h, w, 3]; None if Pillow cannot read."""
    small = shrunk(data, SIDE, _QUALITY)
    if not small:
        return None
    with pillow(small) as image:
        return np.asarray(image.convert("RGB"))
