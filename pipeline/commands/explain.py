"""`imgpipe explain`: draws Grad-CAM and the feature maps of a network.

Label and Grad-CAM come from the served signature, feature maps from the Keras network of the same
version. It needs neither TFX nor Beam.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.models.arrays import Array, PixelValues
    from imgpipe.models.network.classifier import ClassifierNetwork
    from imgpipe.serving.server.runtime import Runtime

app = typer.Typer()

_SOME_REFUSED = 2  # exit code when some files are not images, as of `imgpipe predict`
_TOP = 5  # classes that are shown with their probabilities
_SHOWN_SIDE = 512  # pixels of the longer side of the image in a drawing, which shows 400
_EXAMPLES = """Examples:\n
  imgpipe explain --model imgpipe-out photo.jpg\n
  imgpipe explain --model imgpipe-out --layer all photo.jpg\n
  imgpipe explain --model imgpipe-out/runs/20260131-140559 photo.jpg
"""


@app.command("explain", rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def command(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Images, or folders of images.")
    ],
    model: options.ModelFolderOption = Path("imgpipe-out"),
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME|all",
            help="Layer whose feature maps are drawn, too; may be repeated.",
        ),
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder for the drawings.")
    ] = Path("imgpipe-explain"),
) -> None:
    """Draw Grad-CAM and feature maps of images."""
    from imgpipe.models.machine.process import load_tensorflow
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.output import lookup

    images = _files_of(images)
    # A few missing files are reported beside the others; if all are missing, nothing is imported.
    if not any(path.exists() for path in images):
        raise ConfigError(f"explain: there is no file {', '.join(map(str, images))}.")
    chosen_model = lookup.model(model)
    with consoles.counted() as display:
        if chosen_model.notice:
            say(display.console, f"note: {chosen_model.notice}")
        load_tensorflow()
        with display.step("loading the model"):
            from imgpipe.models.network import activation_images, network_file
            from imgpipe.serving.server.runtime import Runtime

            classifier = network_file.load(chosen_model.folder)
        maps = activation_images.choose(classifier.network, layer or [])
        drawing = _Drawing(classifier, Runtime(chosen_model.folder), maps)
        with display.step("drawing images"):
            refused = _draw(display.console, images, drawing, to)
    if refused:
        raise typer.Exit(_SOME_REFUSED)


def _files_of(images: Sequence[Path]) -> list[Path]:
    """Return the files among some paths and in the folders among them."""
    from imgpipe.serving.client import InvalidArgument
    from imgpipe.serving.client.images import files_of

    try:
        return files_of(images)
    except InvalidArgument as error:
        raise ConfigError(f"explain: {error}") from error


class _Drawing(NamedTuple):
    """What an image is drawn with."""

    classifier: ClassifierNetwork  # the Keras network of the version
    runtime: Runtime  # its session, for Grad-CAM
    layers: Sequence[str]  # names of the layers whose feature maps are drawn


def _draw(console: Console, images: Sequence[Path], drawing: _Drawing, to: Path) -> int:
    """Draw all images, each into a folder of its own, and return how many could not be drawn."""
    from imgpipe.components.report.blocks import Sentence, Span
    from imgpipe.models.machine import progress
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.serving.client import InvalidArgument
    from imgpipe.serving.client.images import content_of

    refused = 0
    progress.total(len(images), "images")
    for path, name in zip(images, _folders(images), strict=True):
        try:
            print_blocks(console, _explain(path, content_of(path), drawing, to / name))
        except InvalidArgument as error:
            refused += 1
            why = Span(f"{path} could not be explained: {error}", "bad")
            print_blocks(console, [Sentence(why)])
        progress.advance(1, "images")
    if refused:
        say(console, f"{refused} of {len(images)} images could not be explained.")
    return refused


def _folders(images: Sequence[Path]) -> Iterator[str]:
    """Yield a folder name for each image: the name of the file, numbered if it recurs."""
    used: set[str] = set()
    for path in images:
        # The stem of "...jpg" is "..", which would lead out of the folder for the drawings.
        stem = path.stem if path.stem.strip(".") else path.name
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = next(
            candidate for candidate in itertools.chain([stem], numbered) if candidate not in used
        )
        used.add(name)
        yield name


def _explain(path: Path, data: bytes, drawing: _Drawing, folder: Path) -> Sequence[ResultBlock]:
    """Draw one image into a folder, and return its most probable classes and the files.

    An image that the model refuses raises InvalidArgument.
    """
    import numpy as np
    import tensorflow as tf

    from imgpipe.components.report.blocks import Listed, Sentence
    from imgpipe.models import preprocess
    from imgpipe.models.export.saved_model import CAM
    from imgpipe.models.network import activation_images
    from imgpipe.pipeline.published.loaded_model import ask
    from imgpipe.pipeline.published.predicted_images import answer_words

    classifier = drawing.classifier
    answer, [decodable] = ask(drawing.runtime, [data], CAM)
    probabilities = answer["probabilities"][0]
    label = answer["label"][0].decode()
    best = np.argsort(-probabilities, kind="stable")[:_TOP]
    top = [(classifier.vocabulary[i], float(probabilities[i])) for i in best]
    pixels = preprocess.decode(tf.constant(decodable), classifier.image_size).numpy()
    image = _shown(decodable, pixels)
    drawings = {"grad_cam.png": activation_images.grad_cam(image, answer["cam"][0], label, top)}
    maps = activation_images.outputs(classifier.network, drawing.layers, pixels)
    for number, name in enumerate(drawing.layers, 1):  # a listing has the network's order
        height, width, depth = maps[name].shape
        safe = re.sub(r"[^\w.-]", "_", name)  # names of layers may contain slashes
        title = f"{name}: {width} × {height} × {depth}"
        drawings[f"{number:03}_{safe}.png"] = activation_images.feature_maps(maps[name], title)
    # After all are drawn, so that an image has all of its drawings or none.
    for file, content in drawings.items():
        output_files.write(folder / file, content)
    words = answer_words(top)
    return [Sentence((f"{path}  ", *words)), Listed([str(folder / file) for file in drawings])]


def _shown(data: bytes, pixels: Array) -> PixelValues:
    """Return the pixels of an image for a drawing, uint8 [h, w, 3], at most `_SHOWN_SIDE`.

    A photograph of a phone is decoded at a part of its size: a drawing of all pixels takes
    gigabytes of memory. The pixels that the network takes are for what Pillow does not read.
    """
    import numpy as np

    from imgpipe.components.report.pictures.thumbnails import small_picture

    small = small_picture(data, _SHOWN_SIDE)
    return np.asarray(pixels.round().astype(np.uint8) if small is None else small)
