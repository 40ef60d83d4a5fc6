"""Exports a published version for other programs, and compares each file with the version itself.

A file is kept only if it answers as the served signature does: on the same pixels, a probability
may differ by the error of the file's number type and no more. LiteRT files are rounded, so they are
also judged on up to a thousand images of the run: their accuracy may be only a little below that of
the served model, which the gate has accepted.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

import numpy as np

from imgpipe.components.common.storage import records
from imgpipe.components.image_evaluator.rules import SLACK
from imgpipe.models import names
from imgpipe.models.arrays import PixelValues
from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.models.export import exchange_files as files
from imgpipe.models.export.exchange_files import Answering
from imgpipe.models.export.saved_model import SERVING_PIXELS
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import load_tensorflow
from imgpipe.models.machine.system import install_extra
from imgpipe.pipeline.command_line import output_files
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.lookup import Model
from imgpipe.pipeline.published import copies

TFLITE = "tflite"
_JUDGED = 1000  # images that judge a file, at most; half a point of accuracy are five of them
_COMPARED = 64  # images with which a file is compared that need not be judged, at most
_SHOWN = 200  # characters of the error of another library
_NOISE: Final = "noise"  # where the images of a comparison are from, if those of the run are gone
_NOISE_IMAGES = 16
LABELS_SUFFIX = ".labels.txt"  # of the file beside a LiteRT file, which names no class itself
_BATCH = 16  # images in one call of a signature


@dataclass(frozen=True)
class ExportKind:
    """A kind of file.

    Attributes:
        name: Its name on the command line, and that of the extra with its packages.
        suffix: End of the file's name.
        tolerance: Largest difference of a probability on the same pixels.
        make: Function from the folder of a version to the content of the file.
        open: Function from the content to a function from pixels uint8 [N, S, S, 3] to
            probabilities [N, C].
        packages: Packages that it needs.
    """

    name: str
    suffix: str
    tolerance: float
    make: Callable[[Path], bytes]
    open: Callable[[bytes], Answering]
    packages: tuple[str, ...] = ()


class Parity(TypedDict):
    """How a file answers beside the version, on the same images."""

    images: int
    origin: str  # the split of the run that the images are from, or noise
    learned: bool  # whether the model has learned from them
    largest_difference: float  # of a probability, for the same pixels
    agreement: float  # share of the images whose label is that of the served model
    accuracy: float | None  # of the file; None for noise, which has no labels
    model_accuracy: float | None  # of the served model


class Written(TypedDict):
    """What was written, and how it was compared."""

    kind: str
    file: str  # absolute path of the file, or of the folder of a SavedModel
    labels: str | None  # absolute path of the labels beside a LiteRT file
    bytes: int
    model: str  # folder of the version
    version: int | None
    classes: list[str]
    parity: Parity | None  # None for a SavedModel, which is a copy


class NotEqual(ImgpipeError):
    """An export that does not open, does not answer as the version, or is not accurate enough."""

    exit_code = 3


#: The kinds of files by name. Sums of float32 are rounded otherwise in another order.
KINDS = {
    kind.name: kind
    for kind in (
        ExportKind("onnx", ".onnx", 1e-3, files.to_onnx, files.open_onnx, files.ONNX_PACKAGES),
        ExportKind("keras", ".keras", 1e-3, files.to_keras, files.open_keras),
        ExportKind(TFLITE, ".tflite", 2e-2, files.to_lite, files.open_lite),
    )
}


def require(name: str, target: Path) -> ExportKind:
    """Return a kind if a file of it can be written, before anything heavy is imported.

    A ConfigError says what is wrong with the kind, its packages or the ending of the target, and a
    ResourceError that the file would be in no folder that exists.
    """
    if (kind := KINDS.get(name)) is None:
        raise ConfigError(
            f"kind of export: expected {', '.join(KINDS)} or {copies.KIND}. Received: {name!r}."
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


def write(name: str, path: Path, target: Path, version: int | None, max_loss: float) -> Written:
    """Export a version, compare it and write the file.

    Args:
        name: Name of the kind.
        path: See `lookup.model`.
        target: The file to write; one that exists is replaced. Beside a LiteRT file, a file of
            labels is written. For a SavedModel, a folder of numbered versions, or the folder of
            one.
        version: Number of the version, None for the newest intact one.
        max_loss: Accuracy that a LiteRT file may lose, from 0 to 1.

    Raises:
        ConfigError: An argument is wrong, or packages of an extra are missing.
        ResourceError: There is no model, or the file cannot be written.
        NotEqual: The file would not answer as the model does, or not as well.
    """
    target = output_files.local_file(target, "--to ").expanduser()
    kind = None if name == copies.KIND else require(name, target)
    model = lookup.model(path, version=version, published=True)
    parity = None
    labels = None
    if kind is None:
        target = copies.place(model, target)
        size = copies.write(model, target)
    else:
        load_tensorflow()
        with progress.step("converting, judging"):
            content, parity = export(kind, model, max_loss)
        output_files.write(target, content, "--to ")
        size = len(content)
    if name == TFLITE:
        labels = target.with_suffix(LABELS_SUFFIX)
        output_files.write(labels, "".join(f"{label}\n" for label in model.vocabulary), "--to ")
    return {
        "kind": name,
        "file": str(target.absolute()),
        "labels": str(labels.absolute()) if labels else None,
        "bytes": size,
        "model": str(model.folder),
        "version": model.version,
        "classes": list(model.vocabulary),
        "parity": parity,
    }


def export(kind: ExportKind, model: Model, max_loss: float) -> tuple[bytes, Parity]:
    """Make the content of a file, and compare it with the version.

    Raises NotEqual if the file does not answer as the version does, or not as well.
    """
    content = kind.make(model.folder)
    is_judged = kind.name == TFLITE
    most = _JUDGED if is_judged else _COMPARED
    parity = _compare(_opened_again(kind, content), model, most)
    if not parity["largest_difference"] <= kind.tolerance:  # true for NaN too
        raise NotEqual(
            f"the {kind.name} file does not answer as {model.folder} does: on "
            f"{parity['images']} images ({parity['origin']}) a probability differs by "
            f"{parity['largest_difference']:.4f}, and at most {kind.tolerance:g} is allowed. It "
            "was not written. Please report this with the name of the backbone."
        )
    refusal = _refusal(parity, model, max_loss) if is_judged else ""
    if refusal:
        raise NotEqual(f"the {kind.name} file was not written: {refusal}.")
    return content, parity


def _opened_again(kind: ExportKind, content: bytes) -> Answering:
    """Open the content of a file with the library that others open it with."""
    try:
        return kind.open(content)
    except Exception as error:  # each library has errors of its own
        lines = str(error).splitlines() or [""]
        raise NotEqual(
            f"the {kind.name} file was not written: its own library cannot open it, as when the "
            f"network has an operation that {kind.name} has no form for. Export another kind, or "
            f"serve the SavedModel. Received: {type(error).__name__}: {lines[0][:_SHOWN]}"
        ) from error


def _sample(model: Model, split: str, most: int) -> Iterator[tuple[bytes, int]]:
    """Yield images of a split of the run that made a version, with the indices of their labels.

    Hashes are evenly distributed, so the smallest ones belong to a random sample of the images,
    which is the same one for the same data. There are none if the images no longer exist.
    """
    places = {name: index for index, name in enumerate(model.vocabulary)}
    uri = model.training_images
    if not uri:
        return
    hashes = (
        records.raw(example, names.IMAGE_HASH)
        for example in records.iterate(uri, split)
        if records.text(example, names.LABEL) in places
    )
    chosen = {*heapq.nsmallest(most, hashes)}
    for example in records.iterate(uri, split):
        if records.raw(example, names.IMAGE_HASH) in chosen:
            label = places[records.text(example, names.LABEL)]
            yield records.raw(example, names.IMAGE_BYTES), label


def _compare(answer: Answering, model: Model, most: int) -> Parity:
    """Compare a file with the version on images of the run that made it, or noise if they are gone.

    The images are those of validation; if the model has learned from them, those of test, if there
    are such images. At most `most` of them are compared.
    """
    from imgpipe.serving.server.runtime import Runtime

    learned = (model.folder / names.OUT_OF_FOLD_FILE).is_file()
    splits = (names.TEST, names.VALIDATION) if learned else (names.VALIDATION,)
    origin = next((split for split in splits if any(_sample(model, split, 1))), _NOISE)
    sample = _sample(model, origin, most)
    if origin == _NOISE:
        sample = ((image, -1) for image in _noise(model.image_size))
    labels: list[int] = []
    answered = []
    with contextlib.closing(Runtime(model.folder)) as runtime:
        # The files of a batch are in memory, which may be large, and not all of them.
        while rows := [*itertools.islice(sample, _BATCH)]:
            batch = [image for image, _ in rows]
            labels += [label for _, label in rows]
            # The files take uint8, so the pixels are rounded for both sides of the comparison. The
            # signature of encoded images resizes them itself, so its labels show what that changes.
            pixels = _resized(batch, model.image_size)
            of_files = runtime.answer(image_bytes=np.array(batch, object))
            of_pixels = runtime.answer(SERVING_PIXELS, pixels=pixels)
            served = of_files[names.PROBABILITIES].argmax(axis=1)
            answered.append((served, of_pixels[names.PROBABILITIES], answer(pixels)))
            progress.advance(len(batch), "images")
    served, expected, received = map(np.concatenate, zip(*answered, strict=True))
    label = received.argmax(axis=1)
    same = received.shape == expected.shape  # NumPy might broadcast one to the other
    return {
        "images": len(labels),
        "origin": origin,
        "learned": learned and origin == names.VALIDATION,
        "largest_difference": float(np.abs(received - expected).max()) if same else float("inf"),
        "agreement": float((label == served).mean()),
        "accuracy": None if origin == _NOISE else float((label == labels).mean()),
        "model_accuracy": None if origin == _NOISE else float((served == labels).mean()),
    }


def _refusal(parity: Parity, model: Model, max_loss: float) -> str:
    """Return why a LiteRT file is not good enough; "" if it is, or if its images are gone."""
    accuracy = parity["accuracy"]
    of_model = parity["model_accuracy"]
    if accuracy is None and model.training_images:
        return "there is no labelled image to judge it on"
    lost = 0.0 if accuracy is None or of_model is None else of_model - accuracy
    if lost <= max_loss + SLACK:
        return ""
    return (
        f"it loses {100 * lost:.1f} points of the served model's accuracy {of_model:.3f} "
        f"({round(lost * parity['images'])} of {parity['images']} {parity['origin']} images), and "
        f"at most {100 * max_loss:g} are allowed"
    )


def _noise(size: int) -> list[bytes]:
    import tensorflow as tf

    drawn = np.random.default_rng(0).integers(0, 256, (_NOISE_IMAGES, size, size, 3), np.uint8)
    return [tf.io.encode_png(pixels).numpy() for pixels in drawn]


def _resized(images: Sequence[bytes], size: int) -> PixelValues:
    """Decode and resize images as the exported graph does, and round their pixels."""
    from imgpipe.models import preprocess

    return np.stack([np.asarray(preprocess.whole_pixels(image, size)) for image in images])
