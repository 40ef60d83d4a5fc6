"""The Python interface: `imgpipe.run`, `check`, `evaluate`, `export` and `load`.

All but `load` do what the commands of the same names do, with the same code, and print progress
to standard error. The functions are reached as attributes of the package `imgpipe`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.pipeline.command_line import console as consoles
from imgpipe.pipeline.output.run import Run
from imgpipe.pipeline.published.loaded_model import LoadedModel
from imgpipe.pipeline.results import Check, Evaluation, Export

if TYPE_CHECKING:
    from imgpipe.models.settings.settings import Settings

__all__ = [
    *("Check", "Evaluation", "Export", "LoadedModel", "Run"),
    *("check", "evaluate", "export", "load", "run"),
]


def run(
    data: str | Path | None = None,
    out: str | Path | None = None,
    *,
    config: str | Path | None = None,
    minutes: float | None = None,
    start: str | None = None,
    accept: bool = False,
    **settings: Any,
) -> Run:
    """Run the pipeline, from images to a blessed, published model, as `imgpipe run` does.

    A run whose data was refused, that failed in a component or whose model is not blessed is
    returned too; see `Run.raise_for_status`.

    Args:
        data: Source of the images; None for that of the configuration.
        out: Output folder; None for that of the configuration, which is `imgpipe-out` by default.
        config: TOML file, or name of a preset; None for the defaults.
        minutes: Time in which a better network is looked for; None for that of the configuration,
            where by default the images decide what is tried, and no clock.
        start: Component from which on cached outputs are not used; None to use all of them.
        accept: Whether it is accepted that the images differ from those of earlier runs.
        **settings: Settings by section, such as `model={"image_size": 160}`. They override those
            of `config`.

    Raises:
        ConfigError: A setting or the source is wrong.
        ResourceError: The run could not start, for example because another one uses the folder.
        KeyboardInterrupt: The run was interrupted; its folder has a report and a log.

    Examples:
        >>> import imgpipe
        >>> run = imgpipe.run("photos", "imgpipe-out", minutes=0, evaluate={"threshold": 0.8})
        >>> run.status
        'blessed'
        >>> run.model.name  # the folder of the version
        '1'
    """
    from imgpipe.components.run_record import run_folder
    from imgpipe.pipeline.execution.pipeline_run import execute

    _prepare()
    if minutes is not None:
        settings["train.minutes"] = minutes
    configuration = _configuration(config, data, settings, out)
    if start is not None:
        start = run_folder.full_name(start)
    run = execute(configuration, start, to_stderr=True, accept=accept)
    if run.status == "interrupted":
        raise KeyboardInterrupt(run.verdict)
    return run


def check(
    data: str | Path,
    out: str | Path | None = None,
    *,
    config: str | Path | None = None,
    **settings: Any,
) -> Check:
    """Report what a run would reject, repair and warn about, as `imgpipe check` does.

    Nothing is written. The arguments and errors are those of `run`.

    Examples:
        >>> check = imgpipe.check("photos")
        >>> check.refused
        False
        >>> check.result["data"]["rejected"], check.result["data"]["by_reason"]["truncated"]
        (11, 3)
    """
    from imgpipe.pipeline import data_check

    _prepare()
    configuration = _configuration(config, data, settings, out)
    with consoles.counted(to_stderr=True):
        return data_check.check(configuration)


def evaluate(
    path: str | Path | Run,
    data: str | Path,
    *,
    version: int | None = None,
    threshold: float = 0.0,
    config: str | Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model on labelled images, as `imgpipe evaluate` does.

    Args:
        path: Output folder of the runs, or one version; or a run, or its
            folder, for its model, which need not be blessed.
        data: Source of the images.
        version: Number of the version; None for the newest intact one.
        threshold: Accuracy that the model has to reach, from 0 to 1.
        config: TOML file, or name of a preset, that says how to read the data; None for the
            defaults.
        **settings: Settings by their names, such as `**{"data.label_column": "species"}`.

    Raises:
        ConfigError: The source, a label or a setting is wrong.
        ResourceError: There is no model, or it is damaged.

    Examples:
        >>> evaluation = imgpipe.evaluate("imgpipe-out", "new-photos", threshold=0.8)
        >>> evaluation.passed, evaluation.metrics["evaluation"]["count"]
        (True, 12)
    """
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.published import evaluation

    _prepare()
    built = _configuration(config, data, settings)
    model = lookup.model(_folder(path), version=version)
    with consoles.counted(to_stderr=True):
        return evaluation.evaluate(model, built, threshold)


def export(
    kind: str,
    path: str | Path | Run,
    to: str | Path,
    *,
    version: int | None = None,
    max_loss: float = 0.005,
) -> Export:
    """Write a published model for other programs, as `imgpipe export` does.

    A file takes resized pixels, and is written only if its answers are those of the served model.
    LiteRT files are judged on the validation images, and may lose little accuracy. A SavedModel is
    the version without the images in it.

    Args:
        kind: `onnx`, `keras`, `tflite` (weights of 16 bits, with a file of labels beside it) or
            `saved_model`.
        path: Output folder of the runs, or one version; or a run, or its
            folder, for the version that it published.
        to: The file to write, whose name ends in `.onnx`, `.keras` or `.tflite`; one that
            exists is replaced. For `saved_model`, a folder of numbered versions, or the new
            folder of one.
        version: Number of the version; None for the newest intact one.
        max_loss: Accuracy that a LiteRT file may lose against the served model.

    Raises:
        ConfigError: An argument is wrong, or packages of an extra are missing.
        ResourceError: There is no model, or the file cannot be written.
        ImgpipeError: The file would not answer as the model does, or not as well.

    Examples:
        >>> exported = imgpipe.export("keras", "imgpipe-out", "model.keras")
        >>> exported.file.name
        'model.keras'
    """
    from imgpipe.pipeline.published import exports

    _prepare()
    with consoles.counted(to_stderr=True):
        described = exports.write(kind, _folder(path), Path(to), version, max_loss)
    parity = described["parity"]
    difference = float(parity["largest_difference"]) if parity else 0.0  # a copy is equal
    return Export(Path(described["file"]), difference, described)


def load(path: str | Path | Run, version: int | None = None) -> LoadedModel:
    """Load a model into this process, as `imgpipe predict --model` does.

    What TensorFlow prints while it loads is not shown.

    Args:
        path: Output folder of the runs, or one version; or a run, or its
            folder, for its model, which need not be blessed: see `LoadedModel.notice`.
        version: Number of the version; None for the newest intact one.

    Raises:
        ConfigError: There is no version of this number.
        ResourceError: There is no model, it is damaged or was removed, or this process is a fork
            of one that has loaded a model.

    Examples:
        >>> with imgpipe.load("imgpipe-out") as model:
        ...     answers = model.predict(["rock.jpg", "paper.jpg"])
        >>> [answer.label for answer in answers]
        ['rock', 'paper']
    """
    with consoles.quiet():
        return LoadedModel(_folder(path), version)


def _folder(path: str | Path | Run) -> Path:
    """Return the folder that an argument names: that of a run, or the path itself."""
    return path.folder if isinstance(path, Run) else Path(path)


def _prepare() -> None:
    """Prepare the process as `imgpipe run` does, before TensorFlow is imported."""
    from imgpipe.models.machine.process import prefer_batches

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    prefer_batches()  # for a check, too: a run that follows it computes as the command does


def _configuration(
    config: str | Path | None,
    data: str | Path | None,
    settings: Mapping[str, Any],
    out: str | Path | None = None,
) -> Settings:
    """Build the configuration from arguments, as the command line does."""
    from imgpipe.pipeline.command_line import options
    from imgpipe.pipeline.configuration import given_settings

    source = None if config is None else os.fsdecode(config)
    images = None if data is None else os.fsdecode(data)
    folder = None if out is None else options.output_folder(os.fsdecode(out))
    return given_settings.configuration(source, images, folder, given_settings.named(settings))
