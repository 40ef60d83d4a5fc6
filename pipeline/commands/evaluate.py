"""``imgpipe evaluate``: judges a published model on labelled images that are new to it."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.example_gen.sources import Scan, Source
    from imgpipe.pipeline.configuration.config import Config
    from imgpipe.pipeline.published.evaluation import Model

app = typer.Typer()

_CLASSES = 40  # rows of the table on the terminal; the classes with the lowest F1
_CONFUSIONS = 5  # most frequent confusions on the terminal
_BELOW = 3  # exit code: finished, and the model is not good enough
_EXAMPLES = """Examples:\n
  imgpipe evaluate --model imgpipe-out --data new-photos\n
  imgpipe evaluate --model imgpipe-out/model/2 --data test.zip --html page.html\n
  imgpipe evaluate --model imgpipe-out --data new-photos --threshold 0.9 --json -
"""


@app.command("evaluate", rich_help_panel=options.RUNS, epilog=_EXAMPLES)
def command(
    data: Annotated[str, typer.Option("--data", metavar="SRC", help=options.SOURCE_HELP)],
    model: options.ModelFolderOption = Path("imgpipe-out"),
    version: options.VersionOption = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Accuracy below which the exit code is 3.")
    ] = 0.0,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE|PRESET", help="Settings that say how to read the data."
        ),
    ] = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonListOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Evaluate a published model on labelled images that it was not trained on."""
    from imgpipe.pipeline.command_line.settings import configuration

    built = configuration(config, data, None, settings or [])
    request = prepare(model, version, built, threshold)
    to_stderr = json_file == output_files.STANDARD_OUTPUT
    found, images = evaluate(request, html_file is not None, to_stderr)
    console = output_files.console_beside(json_file)
    _print(console, found)
    if html_file is not None:
        from imgpipe.components.report.evaluation_page import render

        output_files.write(html_file, render(found, images), "--html ")
        console.print(f"  page     {escape(str(html_file))}")
    output_files.write_json(found, json_file)
    if not found["passed"]:
        raise typer.Exit(_BELOW)


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated.

    Attributes:
        model: The version.
        config: The configuration, which holds the limit of pixels.
        source: The source of the images.
        scan: Its listing.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.
    """

    model: Model
    config: Config
    source: Source
    scan: Scan
    threshold: float


def prepare(path: Path, version: int | None, config: Config, threshold: float) -> EvaluationRequest:
    """Find the model and list the images, before anything heavy is imported.

    Args:
        path: Output folder of a run, folder of versions, or one version.
        version: Number of the version, None for the newest intact one.
        config: The configuration, which names the source.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.

    Raises:
        ConfigError: The threshold, the source or a label is wrong.
        ResourceError: There is no model.
    """
    from imgpipe.pipeline.output import places
    from imgpipe.pipeline.published.evaluation import Model, require_known_labels
    from imgpipe.pipeline.source import opened

    if not isinstance(threshold, numbers.Real) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a share from 0 to 1. Received: {threshold!r}.")
    model = Model.of(places.version(path, version))
    source = opened(config, least_classes=1)  # a recall needs images of one class only
    scan = source.listing()
    require_known_labels(model, scan)
    return EvaluationRequest(model, config, source, scan, threshold)


def evaluate(
    request: EvaluationRequest, with_images: bool, to_stderr: bool
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Evaluate a model while progress is displayed.

    Args:
        request: The model and the images.
        with_images: Whether the images of the page are read and explained.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        What ``--json`` writes, and the images of the page.

    Raises:
        ConfigError: No image could be judged.
    """
    from imgpipe.models.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.published import evaluation, evaluation_facts

    model = request.model
    images: dict[str, bytes] = {}
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the images
        with display.step("classifying images"):
            judged = evaluation.judge(model, request.config, request.source, request.scan)
        seen = None
        if uri := model.training_images:
            with display.step("comparing with training"):
                from imgpipe.pipeline.published.seen_images import seen_images

                seen = seen_images(uri, judged.hashes)
        found = evaluation_facts.facts(model, request.scan.source, judged, seen, request.threshold)
        if with_images:
            with display.step("explaining mistakes"):
                images = evaluation.shown_images(model, request.source, request.scan, found)
    return found, images


def _print(console: Console, found: Mapping[str, Any]) -> None:
    colour = "green" if found["passed"] else "yellow"
    console.print(f"\n[bold {colour}]{escape(found['verdict'])}[/]")
    console.print(f"  model    {escape(found['model'])}")
    calibration = f"expected calibration error {found['ece']:.3f}"
    by_chance = f"{found['ece_by_chance']:.3f} by chance on this number of images"
    console.print(f"  metrics  log loss {found['loss']:.3f}, {calibration} ({by_chance})")
    for warning in found["warnings"]:
        console.print(f"  note     {escape(warning)}")
    # Classes without images come last.
    classes = sorted(
        found["per_class"].items(), key=lambda entry: (not entry[1]["count"], entry[1]["f1"])
    )
    # Few classes are shown in their own order; of many, those that are recognised worst.
    shown = classes[:_CLASSES] if len(classes) > _CLASSES else found["per_class"].items()
    width = max(len(escape(name)) for name, _ in shown)
    console.print(f"\n[dim]  {'class':<{width}}  images  recall  precision     F1[/]")
    for name, row in shown:
        recall, precision = _share(row["recall"]), _share(row["precision"])
        f1 = _share(row["f1"] if row["count"] else None)
        name = escape(f"{name:<{width}}")
        console.print(f"  {name}  {row['count']:>6,}  {recall:>6}  {precision:>9}  {f1:>5}")
    if len(classes) > _CLASSES:
        console.print(f"  … and {len(classes) - _CLASSES:,} more classes; --json writes them all")
    _print_confusions(console, found)


def _print_confusions(console: Console, found: Mapping[str, Any]) -> None:
    wrong = [cell for cell in found["confusion"] if cell["label"] != cell["predicted"]]
    if not wrong:
        return
    console.print("\n  most frequent confusions")
    for cell in sorted(wrong, key=lambda cell: -cell["count"])[:_CONFUSIONS]:
        text = f"{cell['label']} predicted as {cell['predicted']}"
        console.print(f"  {cell['count']:>6,}  {escape(text)}")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
