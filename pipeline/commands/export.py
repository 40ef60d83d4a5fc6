"""`imgpipe export`: writes a published version as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.published.exports import Parity

app = typer.Typer()

_EXAMPLES = """Examples:\n
  imgpipe export onnx imgpipe-out --to model.onnx\n
  imgpipe export keras imgpipe-out/model/2 --to model.keras\n
  imgpipe export tflite imgpipe-out --to model.tflite\n
  imgpipe export tflite-int8 imgpipe-out --to small.tflite --max-loss 0.01\n
  imgpipe export saved_model imgpipe-out --to copy
"""


def _kinds(incomplete: str) -> list[str]:
    """Return the kinds of export that complete a word in the shell."""
    from imgpipe.pipeline.published import exports, model_copy

    return [kind for kind in (*exports.KINDS, model_copy.KIND) if kind.startswith(incomplete)]


@app.command("export", rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="onnx|keras|tflite|tflite-int8|saved_model",
            help="Kind of export.",
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
    model has learned from validation: they have to reach the threshold, and may lose little
    accuracy. A saved_model is the version as it is served, without
    the images in it and what is known of those that it was trained on.
    """
    from imgpipe.pipeline.published import exports

    described = exports.write(kind, out, to, version, max_loss, to_stderr=False)
    console = new_console()
    parity = described["parity"]
    size = described["bytes"] / 1e6
    console.print(f"\n[bold green]{escape(described['file'])}[/], {size:.1f} MB")
    console.print(f"  model    {escape(described['model'])}")
    if parity is None:
        console.print("  note     without images, and without their digests and statistics")
    else:
        _print_comparison(console, kind, parity)
    console.print(f"  classes  {escape(', '.join(described['classes'][:20]))}")
    if described["unknown_below"] and parity is not None:
        console.print(
            "  note     the model answers unknown where no probability reaches "
            f"{described['unknown_below']:g} (model.unknown_rate), and this file only gives "
            "probabilities: compare the highest with unknown_below in its metadata"
        )


def _print_comparison(console: Console, kind: str, parity: Parity) -> None:
    """Print how a file was compared and judged."""
    console.print(
        f"  parity   {parity['images']} images ({parity['origin']}): probabilities differ by at "
        f"most {parity['largest_difference']:.2g} on the same pixels"
    )
    is_judged = kind.startswith("tflite")
    if is_judged and parity["accuracy"] is not None and parity["model_accuracy"] is not None:
        # The difference alone, since another accuracy has decided about a model of few images.
        lost = parity["model_accuracy"] - parity["accuracy"]
        compared = f"{abs(lost):.3f} {'lower' if lost > 0 else 'higher'} than " if lost else ""
        console.print(
            f"  judged   the accuracy on {parity['images']} {parity['origin']} images is "
            f"{compared}that of the model"
        )
        if parity["learned"]:
            console.print(
                "  note     the model has learned from these images, and there are no test images: "
                "on new images the file may lose more"
            )
    elif is_judged:
        console.print("  note     not judged, because the images of its run no longer exist")
    differing = round(parity["images"] * (1 - parity["agreement"]))
    if differing:
        console.print(
            f"  note     {differing} of {parity['images']} images "
            f"{'gets' if differing == 1 else 'get'} another label when pixels are rounded to "
            "whole numbers"
        )
