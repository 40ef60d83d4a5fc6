"""Exports a published version for other programs, and compares each file with the version itself.

A file is kept only if it gives the answers of the served signature: on the same pixels, the
probabilities may differ by the error of the file's number type and no more.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.pipeline.published.evaluation import Model

SCHEMA = 1  # of what --json writes
ONNX, KERAS, TFLITE = "onnx", "keras", "tflite"
_IMAGES = 64  # images that are compared, at most
_DRAWN = 5  # images that are drawn of each class of the demo, if those of the run are gone
_BATCH = 16  # images in one call of a signature

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        suffix: End of the file's name.
        tolerance: Largest difference of a probability on the same pixels.
        make: Function from a version to the content of the file.
        answer: Function from the content and pixels uint8 [N, S, S, 3] to probabilities [N, C].
        packages: Packages that it needs, which are those of the extra of the same name.
    """

    suffix: str
    tolerance: float
    make: Callable[[Model], bytes]
    answer: Callable[[bytes, Pixels], npt.NDArray[np.float32]]
    packages: tuple[str, ...] = ()


class NotEqual(ImgpipeError):
    """An export whose answers are not those of the version."""

    exit_code = 3


def kinds() -> dict[str, Kind]:
    """Return the kinds of files by name."""
    from imgpipe.models.export import exchange_files as files
    from imgpipe.models.export import litert

    return {
        ONNX: Kind(
            ".onnx",
            1e-3,  # float32, whose sums are rounded otherwise in another order
            lambda model: files.to_onnx(model.folder, model.vocabulary),
            files.onnx_probabilities,
            files.ONNX_PACKAGES,
        ),
        KERAS: Kind(
            ".keras", 1e-3, lambda model: files.to_keras(model.folder), files.keras_probabilities
        ),
        TFLITE: Kind(
            ".tflite",
            2e-2,  # weights of 16 bits
            lambda model: litert.convert(litert.load_network(str(model.folder)), litert.FLOAT16),
            files.lite_probabilities,
        ),
    }


def require(name: str, target: Path) -> Kind:
    """Return a kind if a file of it can be written, before anything heavy is imported.

    Args:
        name: Name of the kind.
        target: Path of the file.

    Raises:
        ConfigError: The kind or the name of the file is wrong, or packages are missing.
        ResourceError: The folder of the file does not exist.
    """
    known = kinds()
    if name not in known:
        raise ConfigError(f"kind of export: expected {', '.join(known)}. Received: {name!r}.")
    kind = known[name]
    missing = [one for one in kind.packages if importlib.util.find_spec(one) is None]
    if missing:
        raise ConfigError(
            f"imgpipe export {name} needs the packages {', '.join(missing)}, which are not "
            f"installed. Install them with: pip install --upgrade {' '.join(kind.packages)}, or "
            f"uv sync --extra {name}"
        )
    if target.suffix != kind.suffix:
        raise ConfigError(f"--to {target}: expected a file whose name ends in {kind.suffix}.")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ResourceError(
            f"--to {target}: expected a file in a folder that exists. Create the folder first."
        )
    return kind


def export(name: str, kind: Kind, model: Model) -> tuple[bytes, dict[str, Any]]:
    """Make the content of a file and compare its answers with those of the version.

    Args:
        name: Name of the kind.
        kind: The kind.
        model: The version.

    Returns:
        The content, and what ``--json`` writes without the path of the file.

    Raises:
        NotEqual: The answers differ by more than the tolerance.
        ResourceError: The version cannot be converted.
    """
    content = kind.make(model)
    origin, images = compared_images(model)
    found = _compare(kind, content, model, images)
    parity = {"images": len(images), "origin": origin, "tolerance": kind.tolerance, **found}
    if not found["largest_difference"] <= kind.tolerance:  # true for NaN too
        raise NotEqual(
            f"the {name} file does not answer as {model.folder} does: on {len(images)} images "
            f"({origin}) a probability differs by {found['largest_difference']:.4f}, and at most "
            f"{kind.tolerance:g} is allowed. It was not written. Please report this with the name "
            "of the backbone."
        )
    version = int(model.folder.name) if model.folder.name.isdecimal() else None
    described = {
        "schema": SCHEMA,
        "kind": name,
        "bytes": len(content),
        "model": str(model.folder),
        "version": version,
        "classes": list(model.vocabulary),
        "parity": parity,
    }
    return content, described


def _compare(kind: Kind, content: bytes, model: Model, images: list[bytes]) -> dict[str, Any]:
    """Compare answers on the same pixels, and labels with those of the encoded images."""
    from imgpipe.models import preprocess
    from imgpipe.models.export.signatures import SERVING_PIXELS

    size = image_size_of(model)
    # The files take uint8, so the pixels are rounded for both sides of the comparison.
    pixels = np.stack([np.asarray(preprocess.whole_pixels(image, size)) for image in images])
    expected = _answers(model, SERVING_PIXELS, "pixels", pixels)
    # The served signature resizes the encoded images itself, so its labels show what that changes.
    served = _answers(model, "serving_default", "image_bytes", np.array(images, object))
    received = kind.answer(content, pixels)
    if received.shape != expected.shape:  # NumPy might broadcast one to the other
        return {"largest_difference": float("inf"), "agreement": 0.0}
    return {
        "largest_difference": float(np.abs(received - expected).max()),
        "agreement": float((received.argmax(axis=1) == served.argmax(axis=1)).mean()),
    }


def _answers(
    model: Model, signature: str, name: str, values: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """Probabilities [N, C] of a signature of the version for N values of its input."""
    from imgpipe.models.export.served_model import Served

    with contextlib.closing(Served(str(model.folder), signature, (names.PROBABILITIES,))) as served:
        rows = [
            served.run(**{name: values[start : start + _BATCH]})[names.PROBABILITIES]
            for start in range(0, len(values), _BATCH)
        ]
    return np.concatenate(rows)


def image_size_of(model: Model) -> int:
    """Width and height of the network's input, from the file that describes the version.

    Raises:
        ResourceError: The file does not say it.
    """
    from imgpipe.components.storage.manifest import MODEL_DIGEST
    from imgpipe.models.files import json_object

    try:
        return int(json_object.read(model.folder / MODEL_DIGEST)["image_size"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise ResourceError(
            f"{model.folder} does not say the size of its images. Expected: image_size in "
            f"{MODEL_DIGEST}, which imgpipe writes. Run the pipeline again."
        ) from None


def compared_images(model: Model) -> tuple[str, list[bytes]]:
    """Choose the images that are compared.

    Args:
        model: The version.

    Returns:
        ``"validation"`` and images of the run that made the version, or ``"drawn"`` and drawn ones
        if these are gone.
    """
    if uri := model.training_images:
        from imgpipe.components.storage import records

        examples = itertools.islice(records.iterate(uri, names.VALIDATION), _IMAGES)
        if found := [records.raw(example, names.IMAGE_BYTES) for example in examples]:
            return names.VALIDATION, found
    return "drawn", _drawn()


def _drawn() -> list[bytes]:
    from imgpipe.pipeline.demo import draw_hand

    images = []
    for label in ("paper", "rock", "scissors"):
        for seed in range(_DRAWN):
            buffer = io.BytesIO()
            draw_hand(label, seed=seed, size=224).save(buffer, "JPEG")
            images.append(buffer.getvalue())
    return images
