"""`imgpipe export`: writes a published version as a file for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.pipeline.published.exports import Parity, Written

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe export onnx imgpipe-out --to model.onnx\n
  imgpipe export keras imgpipe-out/model/2 --to model.keras\n
  imgpipe export tflite imgpipe-out --to model.tflite --max-loss 0.01\n
  imgpipe export saved_model imgpipe-out --to copy
"""


def _kinds(incomplete: str) -> list[str]:
    """Return the kinds of export that complete a word in the shell."""
    from imgpipe.pipeline.published import copies, exports

    return [kind for kind in (*exports.KINDS, copies.KIND) if kind.startswith(incomplete)]


@app.command("export", rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="onnx|keras|tflite|saved_model",
            help="Kind of export. For LiteRT of 8 bits use tflite, whose weights have 16 bits. Its "
            "classes are in the file of labels beside it. Open a keras file with the Keras version "
            "that wrote it, or a later one.",
            autocompletion=_kinds,
        ),
    ],
    out: options.VersionsArgument,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="FILE", help="File to write; for saved_model a folder of versions."
        ),
    ],
    version: options.VersionOption = None,
    max_loss: Annotated[
        float,
        typer.Option("--max-loss", min=0, max=1, help="Accuracy that a LiteRT file may lose."),
    ] = 0.005,
) -> None:
    """Export a published model for other programs, or a copy of it to pass on.

    The files map resized pixels to probabilities. They are written only if they answer as the
    served model does. LiteRT files are judged on the validation images, or on those of test if the
    model has learned from validation: they may lose little accuracy. A saved_model is the version
    as it is served, without the images in it and what is known of those that it was trained on.
    """
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.published import exports

    with consoles.counted():
        described = exports.write(kind, out, to, version, max_loss)
    print_blocks(new_console(), _blocks(described))


def _blocks(described: Written) -> Iterator[ResultBlock]:
    """Yield what was written, and how it was compared and judged."""
    from imgpipe.components.common.formatting import join_names
    from imgpipe.components.report.blocks import Figures, Heading, Span

    parity = described["parity"]
    size = f", {described['bytes'] / 1e6:.1f} MB"
    yield Heading((Span(described["file"], "good"), size))
    rows = [("model", described["model"])]
    if parity is None:
        rows.append(("note", "without images, and without their digests and statistics"))
    else:
        rows += _compared(described["kind"], parity)
    if described["labels"]:
        rows.append(("labels", described["labels"]))
    rows.append(("classes", join_names(described["classes"], 20)))
    yield Figures(rows)


def _compared(kind: str, parity: Parity) -> Iterator[tuple[str, str]]:
    """Yield how a file was compared and judged."""
    images = f"{parity['images']} images"
    differ = f"probabilities differ by at most {parity['largest_difference']:.2g}"
    yield "parity", f"{images} ({parity['origin']}): {differ} on the same pixels"
    is_judged = kind == "tflite"
    if is_judged and parity["accuracy"] is not None and parity["model_accuracy"] is not None:
        # The difference alone, since another accuracy has decided about a model of few images.
        lost = parity["model_accuracy"] - parity["accuracy"]
        compared = f"{abs(lost):.3f} {'lower' if lost > 0 else 'higher'} than " if lost else ""
        of_images = f"{parity['images']} {parity['origin']} images"
        yield "judged", f"the accuracy on {of_images} is {compared}that of the model"
        if parity["learned"]:
            yield (
                "note",
                "the model has learned from these images, and there are no test images: on new "
                "images the file may lose more",
            )
    elif is_judged:
        yield "note", "not judged, because the images of its run no longer exist"
    differing = round(parity["images"] * (1 - parity["agreement"]))
    if differing:
        get = "gets" if differing == 1 else "get"
        rounded = "when pixels are rounded to whole numbers"
        yield "note", f"{differing} of {images} {get} another label {rounded}"
