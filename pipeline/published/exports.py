"""Exports a published version for other programs, and compares each file with the version itself.

A file is kept only if it answers as the served signature does: on the same pixels, a probability
may differ by the error of the file's number type and no more. LiteRT files are rounded, so they are
also judged by the rule of the gate: on all validation images, their accuracy has to reach the
threshold, and may be only a little below that of the served model.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.storage import records
from imgpipe.components.image_evaluator.rules import SLACK
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.models.export import exchange_files as files
from imgpipe.models.export.exchange_files import Answering, Probabilities
from imgpipe.models.export.signatures import SERVING_DEFAULT, SERVING_PIXELS
from imgpipe.models.machine import progress
from imgpipe.models.machine.packages import install_extra
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.arrays import PixelValues
from imgpipe.models.names.model_names import OUT_OF_FOLD_FILE
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.model import Model
from imgpipe.pipeline.published import model_copy

ONNX = "onnx"
KERAS = "keras"
TFLITE = "tflite"
INT8 = "tflite-int8"
MAX_LOSS = 0.005  # accuracy that a LiteRT file may lose, unless another limit is given
_IMAGES = 64  # images whose probabilities are compared, at most
_SHOWN = 200  # characters of the error of another library
_NOISE = 16  # images of noise that are compared if those of the run are gone
_BATCH = 16  # images in one call of a signature


@dataclass(frozen=True)
class ExportKind:
    """A kind of file.

    Attributes:
        suffix: End of the file's name.
        tolerance: Largest difference of a probability on the same pixels; infinite for a file that
            is only judged by its labels.
        make: Function from a version to the content of the file.
        open: Function from the content to a function from pixels uint8 [N, S, S, 3] to
            probabilities [N, C].
        packages: Packages that it needs, which are those of the extra of the same name.
    """

    suffix: str
    tolerance: float
    make: Callable[[Model], bytes]
    open: Callable[[bytes], Answering]
    packages: tuple[str, ...] = ()


class NotEqual(ImgpipeError):
    """An export that does not open, does not answer as the version, or is not accurate enough."""

    exit_code = 3


#: The kinds of files by name. Sums of float32 are rounded otherwise in another order.
KINDS = {
    ONNX: ExportKind(
        ".onnx",
        1e-3,
        lambda model: files.to_onnx(model.folder),
        files.open_onnx,
        files.ONNX_PACKAGES,
    ),
    KERAS: ExportKind(".keras", 1e-3, lambda model: files.to_keras(model.folder), files.open_keras),
    TFLITE: ExportKind(".tflite", 2e-2, lambda model: files.to_lite(model.folder), files.open_lite),
    INT8: ExportKind(
        ".tflite",
        float("inf"),
        lambda model: files.to_lite(model.folder, _calibration(model)),
        files.open_lite,
    ),
}


def require(name: str, target: Path) -> ExportKind:
    """Return a kind if a file of it can be written, before anything heavy is imported.

    Raises:
        ConfigError: There is no such kind, its packages are missing, or the target has another
            ending.
        ResourceError: The file would be in no folder that exists.
    """
    if (kind := KINDS.get(name)) is None:
        raise ConfigError(
            f"kind of export: expected {', '.join(KINDS)} or {model_copy.KIND}. Received: {name!r}."
        )
    missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"imgpipe export {name} needs the packages {', '.join(missing)}, which are not "
            f"installed. Install them with: {install_extra(name)}"
        )
    if target.suffix != kind.suffix:
        raise ConfigError(f"--to {target}: expected a file whose name ends in {kind.suffix}.")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ResourceError(
            f"--to {target}: expected a file in a folder that exists. Create the folder first."
        )
    return kind


def write(
    name: str, path: Path, target: Path, version: int | None, max_loss: float, to_stderr: bool
) -> dict[str, Any]:
    """Export a version, compare it and write the file, while progress is displayed.

    Args:
        name: Name of the kind.
        path: See `lookup.model`.
        target: The file to write; one that exists is replaced. For a SavedModel, a folder of
            numbered versions, or the folder of one.
        version: Number of the version, None for the newest intact one.
        max_loss: Accuracy that a LiteRT file may lose, from 0 to 1.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        The file or folder, its size and its classes, and how it was compared and judged.

    Raises:
        ConfigError: An argument is wrong, or packages of an extra are missing.
        ResourceError: There is no model, or the file cannot be written.
        NotEqual: The file would not answer as the model does, or not as well.
    """
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line import output_files

    target = target.expanduser()
    kind = None if name == model_copy.KIND else require(name, target)
    model = lookup.model(path, version=version, published=True)
    if kind is None:
        folder = model_copy.place(model, target)
        size = model_copy.write(model, folder)
        return {
            **_described(name, model, size),
            "parity": None,
            "judged": None,
            "file": str(folder.absolute()),
        }
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # takes longer than most conversions
        with display.step("converting, judging"):
            content, figures = export(name, kind, model, max_loss)
    output_files.write(target, content, "--to ")
    return {**figures, "file": str(target.absolute())}


def export(
    name: str, kind: ExportKind, model: Model, max_loss: float = MAX_LOSS
) -> tuple[bytes, dict[str, Any]]:
    """Make the content of a file, and describe how it was compared with the version and judged.

    Raises:
        NotEqual: The file does not answer as the version does, or not as well.
    """
    content = kind.make(model)
    answer = _opened_again(name, kind, content)
    parity = _compare(kind, answer, model)
    if not parity["largest_difference"] <= kind.tolerance:  # true for NaN too
        raise NotEqual(
            f"the {name} file does not answer as {model.folder} does: on {parity['images']} images "
            f"({parity['origin']}) a probability differs by {parity['largest_difference']:.4f}, "
            f"and at most {kind.tolerance:g} is allowed. It was not written. Please report this "
            "with the name of the backbone."
        )
    judgement = _judge(answer, model, max_loss) if kind.suffix == ".tflite" else None
    if judgement and judgement["reasons"]:
        raise NotEqual(f"the {name} file was not written: {'; '.join(judgement['reasons'])}.")
    return content, {**_described(name, model, len(content)), "parity": parity, "judged": judgement}


def _opened_again(name: str, kind: ExportKind, content: bytes) -> Answering:
    """Open the content of a file with the library that others open it with."""
    try:
        return kind.open(content)
    except Exception as error:  # each library has errors of its own
        lines = str(error).splitlines() or [""]
        raise NotEqual(
            f"the {name} file was not written: its own library cannot open it, as when the network "
            f"has an operation that {name} has no form for. Export another kind, or serve the "
            f"SavedModel. Received: {type(error).__name__}: {lines[0][:_SHOWN]}"
        ) from error


def _described(name: str, model: Model, size: int) -> dict[str, object]:
    """Describe an export by its kind, its size in bytes, and the version."""
    return {
        "kind": name,
        "bytes": size,
        "model": str(model.folder),
        "version": model.version,
        "classes": list(model.vocabulary),
        "unknown_below": model.unknown_below or None,
    }


def _calibration(model: Model) -> list[PixelValues]:
    """Return the pixels of training images of the run that made a version."""
    if (uri := model.training_images) is None:
        raise ResourceError(
            f"{INT8}: a file of 8 bits is calibrated and judged on the images of the run that made "
            f"{model.folder}, which no longer exist. Run the pipeline again, or export {TFLITE}."
        )
    # Hashes are evenly distributed, so the smallest ones belong to a random sample of the images,
    # which is the same one for the same data.
    chosen = heapq.nsmallest(
        files.CALIBRATION_IMAGES,
        (
            (records.raw(example, names.IMAGE_HASH), records.raw(example, names.IMAGE_BYTES))
            for example in records.iterate(uri, names.TRAIN)
        ),
    )
    return list(_resized([image for _, image in chosen], model.image_size))


def _judge(answer: Answering, model: Model, max_loss: float) -> dict[str, Any] | None:
    """Judge a LiteRT file on labelled images of the run, by the rule of the gate.

    A model that has learned from validation is judged on test, if there are such images. None is
    returned if the images of the run no longer exist.
    """
    if (run := model.run) is None or (uri := model.training_images) is None:
        return None
    decision = run.decision
    # Where folds decide, the accuracy on validation does not have to reach the threshold.
    by_validation = decision is not None and decision["decided_by"]["kind"] == names.VALIDATION
    threshold = decision["threshold"] if decision is not None and by_validation else 0.0
    learned = (model.folder / OUT_OF_FOLD_FILE).is_file()
    split = names.VALIDATION
    if learned and next(iter(records.iterate(uri, names.TEST)), None) is not None:
        split = names.TEST
        learned = False
    right = 0
    right_model = 0
    same = 0
    images = 0
    with _opened(model, SERVING_DEFAULT) as served:
        for encoded, labels in _labelled(model, uri, split):
            expected = served(image_bytes=np.array(encoded, object)).argmax(axis=1)
            received = answer(_resized(encoded, model.image_size)).argmax(axis=1)
            right += int((received == labels).sum())
            right_model += int((expected == labels).sum())
            same += int((received == expected).sum())
            images += len(labels)
            progress.advance(len(labels), "images")
    if not images:
        return {"images": 0, "reasons": [f"there is no {split} image to judge it on"]}
    accuracy = right / images
    of_model = right_model / images
    reasons = []
    if accuracy < threshold - SLACK:
        reasons.append(f"its accuracy {accuracy:.3f} is below the threshold {threshold:g}")
    if accuracy < of_model - max_loss - SLACK:
        reasons.append(
            f"it loses {100 * (of_model - accuracy):.1f} points of the served model's accuracy "
            f"{of_model:.3f} ({right_model - right} of {images} {split} images), and at most "
            f"{100 * max_loss:g} are allowed"
        )
    return {
        "images": images,
        "split": split,
        "learned": learned,
        "accuracy": accuracy,
        "model_accuracy": of_model,
        "agreement": same / images,
        "threshold": threshold or None,
        "max_loss": max_loss,
        "reasons": reasons,
    }


def _labelled(
    model: Model, uri: str, split: str
) -> Iterator[tuple[list[bytes], npt.NDArray[np.int64]]]:
    """Yield the encoded images of a split of a run and their label indices, in batches."""
    places = {name: index for index, name in enumerate(model.vocabulary)}
    labelled = (
        (records.raw(example, names.IMAGE_BYTES), places[label])
        for example in records.iterate(uri, split)
        if (label := records.text(example, names.LABEL)) in places
    )
    while batch := list(itertools.islice(labelled, _BATCH)):
        images, labels = zip(*batch, strict=True)
        yield list(images), np.array(labels)


def _compare(kind: ExportKind, answer: Answering, model: Model) -> dict[str, Any]:
    """Compare answers on the same pixels, and labels with those of the encoded images.

    The images are those of validation of the run that made the version, or noise if they are gone.
    """
    uri = model.training_images
    first = itertools.islice(records.iterate(uri, names.VALIDATION) if uri else (), _IMAGES)
    validation_images = [records.raw(example, names.IMAGE_BYTES) for example in first]
    images = validation_images or _noise(model.image_size)
    # The files take uint8, so the pixels are rounded for both sides of the comparison.
    pixels = _resized(images, model.image_size)
    starts = range(0, len(images), _BATCH)
    with _opened(model, SERVING_PIXELS) as served:
        expected = np.concatenate([served(pixels=pixels[i : i + _BATCH]) for i in starts])
    # The served signature resizes the encoded images itself, so its labels show what that changes.
    encoded = np.array(images, object)
    with _opened(model, SERVING_DEFAULT) as served:
        labels = [served(image_bytes=encoded[i : i + _BATCH]).argmax(axis=1) for i in starts]
    received = answer(pixels)
    same = received.shape == expected.shape  # NumPy might broadcast one to the other
    difference = float(np.abs(received - expected).max()) if same else float("inf")
    return {
        "images": len(images),
        "origin": names.VALIDATION if validation_images else "noise",
        "tolerance": kind.tolerance if np.isfinite(kind.tolerance) else None,
        "largest_difference": difference,
        "agreement": float((received.argmax(axis=1) == np.concatenate(labels)).mean())
        if same
        else 0.0,
    }


def _noise(size: int) -> list[bytes]:
    import tensorflow as tf

    drawn = np.random.default_rng(0).integers(0, 256, (_NOISE, size, size, 3), np.uint8)
    return [tf.io.encode_png(pixels).numpy() for pixels in drawn]


def _resized(images: list[bytes], size: int) -> PixelValues:
    """Decode and resize images as the exported graph does, and round their pixels."""
    from imgpipe.models import preprocess

    return np.stack([np.asarray(preprocess.whole_pixels(image, size)) for image in images])


@contextlib.contextmanager
def _opened(model: Model, signature: str) -> Iterator[Callable[..., Probabilities]]:
    """Load a signature of the version, which returns probabilities [N, C]."""
    from imgpipe.serving.served import Served

    outputs = (names.PROBABILITIES,)
    with contextlib.closing(Served(str(model.folder), signature, outputs)) as served:
        yield lambda **inputs: served.run(**inputs)[names.PROBABILITIES]
