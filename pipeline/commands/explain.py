"""``imgpipe explain``: draws the feature maps of a published network and lists its layers.

Label and Grad-CAM come from the served signature, feature maps from the Keras network of the same
version; both must give the same probabilities. It needs neither TFX nor Beam.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from imgpipe.models.export.served_model import Served
    from imgpipe.models.network.classifier import Classifier
    from imgpipe.models.network.layer_sizes import LayerSize

app = typer.Typer()

SCHEMA = 1  # of what --json writes

_SOME_REFUSED = 2  # exit code when some files are not images, as of `imgpipe predict`
_TOP = 5  # classes that are shown with their probabilities
#: Largest difference of a probability between the Keras network and the served model.
_PARITY = 1e-3
_TABLE_WIDTH = 180  # columns when the output is not a terminal


@dataclass(frozen=True)
class Inside:
    """The network of a version, its ``cam`` signature, and the names of the layers to draw."""

    classifier: Classifier
    cam: Served
    sizes: dict[str, LayerSize]
    layers: list[str]


_EXAMPLES = """Examples:\n
  imgpipe explain --model imgpipe-out photo.jpg\n
  imgpipe explain --model imgpipe-out/model/2 --layers
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
        bool, typer.Option("--layers", help="Print every layer with the arithmetic of its size.")
    ] = False,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder for the drawings.")
    ] = Path("imgpipe-explain"),
    json_file: options.JsonListOption = None,
) -> None:
    """Draw feature maps and Grad-CAM of images, and list the sizes of all layers."""
    from imgpipe.models.quick_imports import quick_imports
    from imgpipe.pipeline.command_line import steps
    from imgpipe.pipeline.published import pushed_models

    images = images or []
    if not images and not layers:
        raise ConfigError("explain: expected an image, or --layers for the network's sizes.")
    if layer and not images:
        raise ConfigError("--layer needs an image, whose feature maps are drawn. Name one.")
    # A few missing files are reported beside the others; if all are missing, nothing is imported.
    if images and not any(path.exists() for path in images):
        raise ConfigError(f"explain: there is no file {', '.join(map(str, images))}.")
    version = pushed_models.version_folder(model, None)
    explained: list[dict[str, Any]] = []
    with steps.quiet(to_stderr=json_file == output_files.STANDARD_OUTPUT) as console:
        with quick_imports():
            from imgpipe.models.export.served_model import Served
            from imgpipe.models.export.signatures import CAM
            from imgpipe.models.network import activations, layer_sizes, network_file

        classifier = network_file.load(version)
        sizes = layer_sizes.sizes(classifier.network)
        if layers:
            _print_layers(console, sizes)
        if images:
            chosen = activations.choose(classifier.network, layer or [])
            named = {size.name: size for size in sizes}
            inside = Inside(classifier, Served(str(version), CAM), named, chosen)
            explained = _explain(console, images, inside, to)
    found = {
        "schema": SCHEMA,
        "model": str(version),
        "images": explained,
        "layers": [_layer(size) for size in sizes] if layers else None,
    }
    output_files.write_json(found, json_file)
    if any("error" in image for image in explained):
        raise typer.Exit(_SOME_REFUSED)


def _explain(
    console: Console, images: Sequence[Path], inside: Inside, out: Path
) -> list[dict[str, Any]]:
    """Explain all images, and return what was found, as in the JSON."""
    from imgpipe.components.report.text import plural
    from imgpipe.pipeline.command_line import image_bytes
    from imgpipe.pipeline.configuration.config import Config

    found: list[dict[str, Any]] = []
    for (path, data, error), name in zip(
        image_bytes.read(images, Config().judge.pixel_limit), _folders(images), strict=True
    ):
        if error:
            found.append({"image": str(path), "error": error})
            said = f"{path} could not be explained: {error}"
            console.print(f"[red]{escape(said)}[/]", soft_wrap=True)
            continue
        written, label, top = _explain_one(data, inside, out / name)
        said = escape(", ".join(f"{one['label']} {one['probability']:.3f}" for one in top))
        console.print(
            f"{escape(str(path))}  [bold]{escape(label)}[/]  [dim]{said}[/]", soft_wrap=True
        )
        for file in written:
            console.print(f"  {escape(str(file))}", soft_wrap=True)
        files = [str(file.absolute()) for file in written]
        found.append({"image": str(path), "label": label, "top": top, "files": files})
    if refused := sum("error" in image for image in found):
        counted = plural(len(images), "image")
        console.print(f"{refused} of {counted} could not be explained.")
    return found


def _folders(images: Sequence[Path]) -> Iterator[str]:
    """Yield a folder name for each image: the name of the file, numbered if it recurs."""
    used: set[str] = set()
    for path in images:
        # The stem of "...jpg" is "..", which would lead out of the folder for the drawings.
        stem = path.stem if path.stem.strip(".") else path.name
        name, number = stem, 1
        while name in used:
            number += 1
            name = f"{stem}-{number}"
        used.add(name)
        yield name


def _explain_one(data: bytes, inside: Inside, folder: Path) -> tuple[list[Path], str, list[Any]]:
    """Return the files that were written for one image, its label and most probable classes."""
    import numpy as np
    import tensorflow as tf

    from imgpipe.models import preprocess
    from imgpipe.models.network import activation_images, activations

    classifier = inside.classifier
    answer = inside.cam.run(image_bytes=np.array([data], object))
    probabilities, label = answer["probabilities"][0], answer["label"][0].decode()
    difference = float(np.abs(classifier.probabilities([data])[0] - probabilities).max())
    if not difference <= _PARITY:  # true for NaN too
        raise ResourceError(
            "the rebuilt network and the served model give different answers: a probability "
            f"differs by {difference:.2g}, expected at most {_PARITY:.0e}. Run the pipeline again."
        )
    top = [
        (classifier.vocabulary[i], float(probabilities[i]))
        for i in np.argsort(-probabilities, kind="stable")[:_TOP]
    ]
    image = preprocess.decode(tf.constant(data)).numpy()
    drawings = {"grad_cam.png": activation_images.grad_cam(image, answer["cam"][0], label, top)}
    pixels = preprocess.decode_and_resize(tf.constant(data), classifier.image_size).numpy()
    found = activations.outputs(classifier.network, inside.layers, pixels)
    # Numbered, so that a listing of the folder has the order of the layers.
    numbers = {name: number for number, name in enumerate(inside.sizes)}
    for name in inside.layers:
        safe = re.sub(r"[^\w.-]", "_", name)  # names of layers may contain slashes
        drawing = _drawn(found[name], inside, name, pixels)
        drawings[f"{numbers[name]:03d}_{safe}.png"] = drawing
    # After all are drawn, so that an image has all of its drawings or none.
    for file, content in drawings.items():
        output_files.write(folder / file, content)
    written = [folder / file for file in drawings]
    return written, label, [{"label": name, "probability": value} for name, value in top]


def _drawn(
    values: npt.NDArray[np.float32], inside: Inside, name: str, pixels: npt.NDArray[np.float32]
) -> bytes:
    """Draw the output of one layer, as an encoded image."""
    import numpy as np

    from imgpipe.models.network import activation_images

    size = inside.sizes[name]
    title, seen = f"{name} ({size.kind})", np.round(pixels).astype(np.uint8)
    if values.ndim == 3:
        return activation_images.feature_maps(values, title, size.arithmetic, seen)
    names = inside.classifier.vocabulary
    return activation_images.vector(values.reshape(-1), title, size.arithmetic, seen, names)


def _print_layers(console: Console, sizes: Sequence[LayerSize]) -> None:
    """Print every layer with its sizes and their arithmetic."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("layer", "kind", "input"):
        table.add_column(heading, overflow="fold")
    for heading in ("F", "S", "P", "K"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("(W − F + 2P)/S + 1 = W, D = K", overflow="fold", min_width=36)
    table.add_column("output", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    for size in sizes:
        table.add_row(*map(escape, _cells(size)))
    if not console.is_terminal:
        console.width = _TABLE_WIDTH
    console.print(table)
    total = sum(size.parameters for size in sizes)
    console.print(
        "F side of the filter or window, S stride, P padding at each side (before|after where they "
        "differ), K filters, W width, D depth; sizes are height × width × depth.\n"
        f"{total:,} parameters in all.",
        soft_wrap=True,
    )


def _cells(size: LayerSize) -> Iterator[Any]:
    inputs = " + ".join(_spelled(shape) for shape in dict.fromkeys(size.inputs))
    yield from (size.name or "–", size.kind, inputs)
    yield from (size.window, size.stride, size.padding, size.filters)
    yield from (size.arithmetic, _spelled(size.output))
    yield f"{size.parameters:,}" if size.parameters else ""


def _layer(size: LayerSize) -> dict[str, Any]:
    return {
        "name": size.name,
        "kind": size.kind,
        "output": list(size.output),
        "parameters": size.parameters,
    }


def _spelled(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
