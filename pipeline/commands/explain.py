"""`imgpipe explain`: draws the feature maps of a network and lists its layers.

Label and Grad-CAM come from the served signature, feature maps from the Keras network of the same
version. It needs neither TFX nor Beam.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.models.network.classifier import ClassifierNetwork
    from imgpipe.serving.server.served import Served

app = typer.Typer()

_SOME_REFUSED = 2  # exit code when some files are not images, as of `imgpipe predict`
_TOP = 5  # classes that are shown with their probabilities
_EXAMPLES = """Examples:\n
  imgpipe explain --model imgpipe-out photo.jpg\n
  imgpipe explain --model imgpipe-out/model/2 --layers\n
  imgpipe explain --model imgpipe-out --run newest photo.jpg
"""


@app.command("explain", rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def command(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Images to explain.")
    ] = None,
    model: options.ModelFolderOption = Path("imgpipe-out"),
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME|all",
            help="Layer whose feature maps are drawn; may be repeated. Default: a few.",
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print every layer with its size.")
    ] = False,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder for the drawings.")
    ] = Path("imgpipe-explain"),
    run: options.RunOption = None,
) -> None:
    """Draw feature maps and Grad-CAM of images, and list the sizes of all layers."""
    from imgpipe.models.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.published.model import Model

    images = images or []
    if not images and not layers:
        raise ConfigError("explain: expected an image, or --layers for the network's sizes.")
    if layer and not images:
        raise ConfigError("--layer needs an image, whose feature maps are drawn. Name one.")
    # A few missing files are reported beside the others; if all are missing, nothing is imported.
    if images and not any(path.exists() for path in images):
        raise ConfigError(f"explain: there is no file {', '.join(map(str, images))}.")
    chosen_model = Model.of(model, run=run)
    version = chosen_model.folder
    with consoles.quiet() as console:
        if chosen_model.notice:
            console.print(f"note: {escape(chosen_model.notice)}", soft_wrap=True)
        with consoles.Display(console) as display, display.step("loading the model"):
            with quick_imports():
                from imgpipe.models.export.signatures import CAM
                from imgpipe.models.network import network_file
                from imgpipe.serving.server.served import Served

                classifier = network_file.load(version)
            served = Served(str(version), CAM) if images else None
        if layers:
            classifier.network.summary(
                print_fn=lambda text: console.print(escape(text, lines=True))
            )
        refused = 0
        if served is not None:
            refused = _draw(console, images, classifier, served, layer or [], to)
    if refused:
        raise typer.Exit(_SOME_REFUSED)


def _draw(
    console: Console,
    images: Sequence[Path],
    classifier: ClassifierNetwork,
    served: Served,
    layers: Sequence[str],
    to: Path,
) -> int:
    """Draw all images, each into a folder of its own, and return how many could not be drawn."""
    from imgpipe.models.network import activation_images
    from imgpipe.pipeline.command_line import image_bytes
    from imgpipe.pipeline.configuration.config import Config

    chosen = activation_images.choose(classifier.network, layers)
    refused = 0
    read = image_bytes.read(images, Config().judge.pixel_limit)
    for (path, data, error), name in zip(read, _folders(images), strict=True):
        if error:
            refused += 1
            said = f"{path} could not be explained: {error}"
            console.print(f"[red]{escape(said)}[/]", soft_wrap=True)
        else:
            console.print(f"{escape(str(path))}  ", end="", soft_wrap=True)
            _explain(console, data, classifier, served, chosen, to / name)
    if refused:
        console.print(f"{refused} of {len(images)} images could not be explained.")
    return refused


def _folders(images: Sequence[Path]) -> Iterator[str]:
    """Yield a folder name for each image: the name of the file, numbered if it recurs."""
    used: set[str] = set()
    for path in images:
        # The stem of "...jpg" is "..", which would lead out of the folder for the drawings.
        stem = path.stem if path.stem.strip(".") else path.name
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = next(one for one in itertools.chain([stem], numbered) if one not in used)
        used.add(name)
        yield name


def _explain(
    console: Console,
    data: bytes,
    classifier: ClassifierNetwork,
    served: Served,
    chosen: Sequence[str],
    folder: Path,
) -> None:
    """Draw one image into a folder, and print its most probable classes and the files."""
    import numpy as np
    import tensorflow as tf

    from imgpipe.models import preprocess
    from imgpipe.models.network import activation_images

    answer = served.run(image_bytes=np.array([data], object))
    probabilities = answer["probabilities"][0]
    label = answer["label"][0].decode()
    best = np.argsort(-probabilities, kind="stable")[:_TOP]
    top = [(classifier.vocabulary[i], float(probabilities[i])) for i in best]
    image = preprocess.decode(tf.constant(data)).numpy()
    drawings = {"grad_cam.png": activation_images.grad_cam(image, answer["cam"][0], label, top)}
    pixels = preprocess.decode(tf.constant(data), classifier.image_size).numpy()
    found = activation_images.outputs(classifier.network, chosen, pixels)
    for number, name in enumerate(chosen, 1):  # a listing of the folder has the network's order
        height, width, depth = found[name].shape
        safe = re.sub(r"[^\w.-]", "_", name)  # names of layers may contain slashes
        title = f"{name}: {width} × {height} × {depth}"
        drawings[f"{number:03}_{safe}.png"] = activation_images.feature_maps(found[name], title)
    # After all are drawn, so that an image has all of its drawings or none.
    for file, content in drawings.items():
        output_files.write(folder / file, content)
    said = ", ".join(f"{name} {probability:.3f}" for name, probability in top)
    console.print(f"[bold]{escape(label)}[/]  [dim]{escape(said)}[/]", soft_wrap=True)
    for file in drawings:
        console.print(f"  {escape(str(folder / file))}", soft_wrap=True)
