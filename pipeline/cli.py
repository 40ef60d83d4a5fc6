"""``imgpipe``: the front door.

Each command's body is imported when it runs: ``imgpipe --help`` answers without TensorFlow or
TFX. Exit codes: 0 done and blessed, 1 crash, 2 bad arguments or config, 3 finished but not
blessed, 4 data refused by the gate, 5 a resource is missing or busy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.errors import ImgpipeError
from pipeline.commands import drift, quarantine

app = typer.Typer(
    name="imgpipe",
    help="From a folder of photographs to a blessed, served image classifier.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
schema = typer.Typer(help="What later data is judged by: look at it, accept a change.")
app.add_typer(schema, name="schema")
kubeflow = typer.Typer(help="The same graph for Kubeflow Pipelines.", no_args_is_help=True)
app.add_typer(kubeflow, name="kubeflow")
app.add_typer(quarantine.app, name="quarantine")

_SOURCE_HELP = (
    "Folder of photographs, .zip or .tar of one, list or pixels as .csv, tfds:NAME, TFRecord files."
)
_SETTINGS = typer.Option(
    "--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be repeated."
)
_SERVER = typer.Option(
    "--server", metavar="HOST:PORT", help="gRPC address, or http://HOST:PORT of the REST interface."
)
_MODEL = typer.Option("--model", help="Name of the served model.")
_CA = typer.Option("--ca", metavar="PEM", help="TLS: authorities to trust.")
_CERTIFICATE = typer.Option("--certificate", metavar="PEM", help="TLS: our own certificate.")
_KEY = typer.Option("--key", metavar="PEM", help="TLS: its key.")
_JSON = typer.Option("--json", metavar="FILE", help="Write the summary there (- for the screen).")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")
    ] = Path("imgpipe-demo"),
    json_file: Annotated[str | None, _JSON] = None,
) -> None:
    """Draw a small set of hands, plant faults, run the pipeline, serve and ask the result."""
    from pipeline.commands import demo as command

    raise typer.Exit(command.run(out, json_file))


@app.command()
def init(
    photos: Annotated[str, typer.Argument(metavar="SRC", help=_SOURCE_HELP)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the config.")
    ] = Path("imgpipe.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Look at the photographs and write a commented config."""
    from pipeline.commands import init as command

    raise typer.Exit(command.run(photos, output, force))


@app.command()
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help=_SOURCE_HELP)],
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE|PRESET", help="Settings of a run.")
    ] = None,
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all findings (- for the screen)."),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures.")
    ] = None,
) -> None:
    """Judge the data, and nothing else: what a run would reject, repair and warn of."""
    from pipeline.commands import check as command

    raise typer.Exit(command.run(data, config, settings or [], json_file, html_file))


@app.command()
def run(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file or preset name.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="SRC", help=_SOURCE_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where everything goes.")
    ] = None,
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    json_file: Annotated[str | None, _JSON] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="COMPONENT", help="Run afresh from this component on."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a run would do, and do nothing.")
    ] = False,
) -> None:
    """Run the pipeline: from photographs to a blessed, pushed model."""
    from pipeline.commands import run as command

    raise typer.Exit(command.run(config, data, out, settings or [], json_file, start, dry_run))


@app.command()
def presets() -> None:
    """List the recipes that come with the product: their data, and what to expect."""
    from pipeline.commands import presets as command

    raise typer.Exit(command.run())


@app.command()
def views(
    photos: Annotated[
        str, typer.Argument(metavar="PHOTO|FOLDER", help="A photograph, or a folder of some.")
    ],
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file or preset name.")
    ] = None,
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write the sheet, a .png.")
    ] = Path("views.png"),
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=64, help="Photographs of a folder to show.")
    ] = 8,
) -> None:
    """Show what augmentation makes of photographs: a contact sheet of their views."""
    from pipeline.commands import views as command

    raise typer.Exit(command.run(photos, config, settings or [], out, rows))


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    server: Annotated[str, _SERVER] = "localhost:8500",
    model: Annotated[str, _MODEL] = "imgpipe",
    version: Annotated[
        int | None, typer.Option("--version", help="Default: the newest that is available.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The version under this label, such as stable.")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop",
            metavar="LEFT,TOP,RIGHT,BOTTOM",
            help="Part of the pictures, in pixels or in shares from 0 to 1.",
        ),
    ] = None,
    ten_crop: Annotated[
        bool,
        typer.Option("--ten-crop", help="Average ten parts of each picture: for doubtful ones."),
    ] = False,
    top: Annotated[int, typer.Option("--top", help="Labels to show for each picture.")] = 5,
    at_once: Annotated[int, typer.Option("--at-once", help="Requests at a time.")] = 4,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for each request.")] = 30.0,
    ca: Annotated[Path | None, _CA] = None,
    certificate: Annotated[Path | None, _CERTIFICATE] = None,
    key: Annotated[Path | None, _KEY] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a server what the pictures show."""
    from pipeline.commands import predict as command

    way = command.Way(server, model, version, label, timeout, ca, certificate, key)
    question: command.Classifying = {
        "crop": crop,
        "ten_crop": ten_crop,
        "top": top,
        "at_once": at_once,
    }
    raise typer.Exit(command.run(images, way, question, as_json))


@app.command()
def explain(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Pictures to look at.")
    ] = None,
    model: Annotated[
        Path,
        typer.Option(
            "--model", metavar="DIR", help="A version, a folder of versions, or that of a run."
        ),
    ] = Path("imgpipe-out"),
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME|all",
            help="Layer whose feature maps to draw; may be repeated. Default: some.",
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print every layer with the arithmetic of its size.")
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")
    ] = Path("imgpipe-explain"),
) -> None:
    """Look inside the network: feature maps and Grad-CAM of pictures, sizes of all layers."""
    from pipeline.commands import explain as command

    raise typer.Exit(command.run(images or [], model, layer or [], layers, out))


@app.command()
def load(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Server, HOST:PORT or http://HOST:PORT.")
    ] = "localhost:8500",
    images: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Picture or folder to send, repeatable. Default: noise."),
    ] = None,
    model: Annotated[str, _MODEL] = "imgpipe",
    concurrency: Annotated[
        str, typer.Option("--concurrency", metavar="N,N,…", help="Callers at a time, each in turn.")
    ] = "1,8,32",
    batch: Annotated[int, typer.Option("--batch", help="Images a request.")] = 1,
    window: Annotated[float, typer.Option("--window", help="Seconds of a window.")] = 5.0,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", help="Spread of three windows in a row that counts as stable."),
    ] = 0.1,
    windows: Annotated[int, typer.Option("--windows", help="Windows at most.")] = 12,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for each request.")] = 30.0,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write figures (- for the screen).")
    ] = None,
) -> None:
    """Measure a server: throughput and latency by number of callers, errors by code."""
    from pipeline.commands import load as command

    settings = command.settings(concurrency, batch, window, tolerance, windows, timeout)
    raise typer.Exit(command.run(target, model, images or [], settings, json_file))


@app.command()
def serve(
    model_dir: Annotated[Path, typer.Argument(help="Base path holding numbered versions.")],
    flags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- --FLAG=VALUE…]", help="More flags of imgpipe-model-server."),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="gRPC port; 0 takes a free one.")] = 8500,
    rest_port: Annotated[
        int, typer.Option("--rest-port", help="REST port; 0 for none, -1 for a free one.")
    ] = 0,
    host: Annotated[str, typer.Option("--host", help="Address to bind.")] = "127.0.0.1",
    model: Annotated[str, typer.Option("--model", help="Name to serve it under.")] = "imgpipe",
    int8: Annotated[
        bool, typer.Option("--int8", help="Serve model.tflite where a version has one.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option("--request-log", metavar="PREFIX", help="Keep requests, for imgpipe drift."),
    ] = None,
    log_share: Annotated[
        float, typer.Option("--log-share", min=0, max=1, help="Share of the requests to keep.")
    ] = 0.1,
    log_images: Annotated[
        bool, typer.Option("--log-images", help="Keep their pictures too.")
    ] = False,
) -> None:
    """Serve the newest version on this machine, with TensorFlow Serving's protocol."""
    from pipeline.commands import serve as command

    more = [*command.log_flags(log, log_share, log_images), *(flags or [])]
    raise typer.Exit(command.run(model_dir, host, port, model, int8, more, rest_port))


app.command("drift")(drift.drift)


@app.command()
def deploy(
    kind: Annotated[str, typer.Argument(metavar="compose|kubernetes|kserve", help="What for.")],
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file or preset name.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path(
        "imgpipe-deploy"
    ),
    settings: Annotated[list[str] | None, _SETTINGS] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Image of tensorflow_model_server.")
    ] = None,
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="Processor cores of a server.")] = 2,
    memory: Annotated[int, typer.Option("--memory", min=1, help="GiB of memory of a server.")] = 2,
    replicas: Annotated[
        str, typer.Option("--replicas", metavar="MIN-MAX", help="Servers, fewest and most.")
    ] = "2-8",
    claim: Annotated[
        str, typer.Option("--claim", help="PersistentVolumeClaim that holds the versions.")
    ] = "imgpipe-models",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files there.")] = False,
) -> None:
    """Write what the real tensorflow/serving needs to serve the pushed models."""
    from pipeline.commands import deploy as command

    wanted = command.Wanted(image, cpus, memory, replicas, claim)
    raise typer.Exit(command.run(kind, config, settings or [], out, wanted, force))


@app.command()
def rollback(
    model_dir: Annotated[Path, typer.Argument(help="Base path holding numbered versions.")],
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="Default: the one before.")
    ] = None,
) -> None:
    """Publish an earlier version's content again, under a new number."""
    from pipeline.commands import rollback as command

    raise typer.Exit(command.run(model_dir, to))


@app.command()
def doctor(
    out: Annotated[Path, typer.Option("--out", help="Folder a run would use.")] = Path(
        "imgpipe-out"
    ),
) -> None:
    """Say whether this machine is fit, and what to do where it is not."""
    from pipeline.commands import doctor as command

    raise typer.Exit(command.run(out))


@schema.command("show")
def schema_show(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file or preset name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the runs.")
    ] = None,
    settings: Annotated[list[str] | None, _SETTINGS] = None,
) -> None:
    """Show the accepted schema."""
    from pipeline.commands import schema as command

    raise typer.Exit(command.show(config, out, settings or []))


@schema.command("accept")
def schema_accept(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file or preset name.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="SRC", help=_SOURCE_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the runs.")
    ] = None,
    settings: Annotated[list[str] | None, _SETTINGS] = None,
) -> None:
    """Take what the last run was refused for as right: schema anomalies, drift and skew."""
    from pipeline.commands import schema as command

    raise typer.Exit(command.accept(config, data, out, settings or []))


@kubeflow.command("compile")
def kubeflow_compile(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file or preset name.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="SRC", help=_SOURCE_HELP)] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write the PipelineSpec."),
    ] = Path("imgpipe-pipeline.yaml"),
    image: Annotated[
        str, typer.Option("--image", help="Container image with imgpipe installed.")
    ] = "imgpipe:latest",
    root: Annotated[
        str, typer.Option("--root", help="Artifact root, such as minio://bucket/imgpipe.")
    ] = "minio://mlpipeline/imgpipe",
    settings: Annotated[list[str] | None, _SETTINGS] = None,
) -> None:
    """Write the PipelineSpec that Kubeflow Pipelines runs."""
    from pipeline.commands import kubeflow as command

    raise typer.Exit(command.compile_(config, data, output, image, root, settings or []))


def main() -> None:
    """Entry point of the console script: people get a sentence, not a traceback."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # a user's models.py must not shadow ours
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app(standalone_mode=True)
    except ImgpipeError as error:
        errors.print(f"[bold red]imgpipe:[/] {_plain(error)}")
        sys.exit(error.exit_code)


def _plain(error: ImgpipeError) -> str:
    from rich.markup import escape

    return escape(str(error))


if __name__ == "__main__":
    main()
