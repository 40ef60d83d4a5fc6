"""The Python interface: ``imgpipe.run``, ``check``, ``evaluate``, ``export`` and ``load``.

The functions do what the commands of the same names do, with the same code. They are reached as
attributes of the package ``imgpipe``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline.loaded_model import LoadedModel

if TYPE_CHECKING:
    from imgpipe.pipeline.commands.check import Examined
    from imgpipe.pipeline.commands.evaluate import Asked

__all__ = [
    *("Check", "Evaluation", "Export", "LoadedModel", "Run"),
    *("check", "evaluate", "export", "load", "run"),
]


@dataclass(frozen=True)
class Run:
    """The outcome of a run.

    Attributes:
      exit_code: Exit code that ``imgpipe run`` would have ended with; 0 for a blessed model.
      verdict: The sentence that the command prints.
      summary: The summary that ``--json`` writes, which the reference documents.
      folder: Folder of the run with its report, summary, log and configuration.
      repeated: Whether it is the outcome of an earlier run, because nothing has changed since.
    """

    exit_code: int
    verdict: str
    summary: Mapping[str, Any] = field(repr=False)
    folder: Path
    repeated: bool = False

    @property
    def status(self) -> str:
        """How the run ended: ``blessed``, ``not_blessed``, ``refused`` or ``failed``."""
        return str(self.summary["status"])

    @property
    def blessed(self) -> bool:
        """Whether the model passed all gates."""
        return bool(self.summary["blessed"])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Metrics by split, such as ``accuracy`` and ``per_class``; empty without a model."""
        return self.summary["metrics"] or {}

    @property
    def accuracy(self) -> float | None:
        """Accuracy on validation; None if no model was evaluated.

        Where folds decide instead, the verdict rests on ``summary["cross_validation"]["mean"]``.
        """
        value = (self.summary["gate"] or {}).get("value")
        return None if value is None else float(value)

    @property
    def model(self) -> Path | None:
        """Folder of the version that serves the model; None if it was not published."""
        push = self.summary["push"]
        return Path(push["path"]) if push["status"] in ("pushed", "unchanged") else None

    @property
    def report(self) -> Path | None:
        """Path of the page; None if none was written."""
        return Path(self.summary["report"]) if self.summary["report"] else None

    def raise_for_status(self) -> Run:
        """Return the run itself if its model is blessed.

        Raises:
          ImgpipeError: The data was refused, the run failed, or the model is not blessed. Its
            ``exit_code`` is that of the command line.
        """
        if self.exit_code:
            error = ImgpipeError(f"{self.verdict}. Log: {self.summary['log']}")
            error.exit_code = self.exit_code
            raise error
        return self

    def show(self) -> None:
        """Display the page: in the output of a notebook's cell, otherwise in a browser."""
        _show(self, self.report)

    def _repr_html_(self) -> str | None:
        """Return the page in a frame, as notebooks display it; None if there is no page."""
        from imgpipe.pipeline import notebook

        return notebook.frame(self.report.read_text("utf-8")) if self.report else None


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
      verdict: The sentence that the command prints.
      refused: Whether a run would refuse the data.
      reasons: Why it would, as sentences.
      summary: What ``imgpipe check --json`` writes, which the reference documents.
    """

    verdict: str
    refused: bool
    reasons: tuple[str, ...]
    summary: Mapping[str, Any] = field(repr=False)
    _examined: Examined = field(repr=False, compare=False)

    @cached_property
    def html(self) -> str:
        """The page of the check as one HTML file; the images that it shows are read now."""
        import dataclasses

        from imgpipe.components.image_filter import thread_driver
        from imgpipe.components.report.check_page import paths_shown
        from imgpipe.pipeline.commands.check import page

        found = self._examined
        shown = paths_shown(found.judged)
        images = thread_driver.read_images(found.plan, found.judged, shown)
        return page(dataclasses.replace(found, images=images))

    def save(self, file: str | Path) -> Path:
        """Write the page to a file.

        Args:
          file: Path of the HTML file.

        Returns:
          Its absolute path.
        """
        return _save(self.html, file)

    def show(self) -> None:
        """Display the page in the output of a notebook's cell; elsewhere use `save`."""
        _show(self, None)

    def _repr_html_(self) -> str:
        """Return the page in a frame, as notebooks display it."""
        from imgpipe.pipeline import notebook

        return notebook.frame(self.html)


@dataclass(frozen=True)
class Evaluation:
    """What a published model answers for labelled images.

    Attributes:
      verdict: The sentence that the command prints.
      summary: What ``imgpipe evaluate --json`` writes, which the reference documents.
    """

    verdict: str
    summary: Mapping[str, Any] = field(repr=False)
    _asked: Asked = field(repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """Share of the judged images that are predicted correctly, from 0 to 1."""
        return float(self.summary["accuracy"])

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the accuracy, 95 %."""
        low, high = self.summary["ci95"]
        return float(low), float(high)

    @property
    def passed(self) -> bool:
        """Whether the accuracy reaches the threshold."""
        return bool(self.summary["passed"])

    @cached_property
    def html(self) -> str:
        """The page as one HTML file; the mistakes that it shows are read and explained now."""
        from imgpipe.components.report.evaluation_page import render
        from imgpipe.pipeline import console, evaluation, temporary

        asked = self._asked
        with temporary.folder() as folder, console.quiet(folder / "log", to_stderr=True):
            images = evaluation.shown_images(asked.model, asked.source, asked.scan, self.summary)
        return render(self.summary, images)

    def save(self, file: str | Path) -> Path:
        """Write the page to a file.

        Args:
          file: Path of the HTML file.

        Returns:
          Its absolute path.
        """
        return _save(self.html, file)

    def show(self) -> None:
        """Display the page in the output of a notebook's cell; elsewhere use `save`."""
        _show(self, None)

    def _repr_html_(self) -> str:
        """Return the page in a frame, as notebooks display it."""
        from imgpipe.pipeline import notebook

        return notebook.frame(self.html)


@dataclass(frozen=True)
class Export:
    """A file that was written for other programs.

    Attributes:
      file: Its absolute path.
      largest_difference: Largest difference of a probability from the served model, on the images
        that were compared.
      summary: What ``imgpipe export --json`` writes, which the reference documents.
    """

    file: Path
    largest_difference: float
    summary: Mapping[str, Any] = field(repr=False)


def _save(html: str, file: str | Path) -> Path:
    from imgpipe.models.atomic_write import atomic_write

    path = Path(file).expanduser().absolute()
    atomic_write(path, html)
    return path


def _show(result: Run | Check | Evaluation, page: Path | None) -> None:
    from imgpipe.pipeline import notebook

    if notebook.in_notebook():
        from IPython.display import display

        display(result)
    elif page is not None:
        from imgpipe.pipeline.commands import open as open_command

        open_command.run(page.parent)
    else:
        print(result.verdict)


def run(
    data: str | Path | None = None,
    out: str | Path | None = None,
    *,
    config: str | Path | None = None,
    minutes: float | None = None,
    start: str | None = None,
    **settings: Any,
) -> Run:
    """Run the pipeline, from images to a blessed, published model, as ``imgpipe run`` does.

    Progress is printed to standard error. A run whose data was refused, that failed in a component
    or whose model is not blessed is returned too; see `Run.raise_for_status`.

        run = imgpipe.run("photos", "imgpipe-out", evaluate={"threshold": 0.95})
        print(run.verdict, run.accuracy)

    Args:
      data: Source of the images; None for that of the configuration.
      out: Output folder; None for that of the configuration, which is ``imgpipe-out`` by default.
      config: TOML file, or name of a preset; None for the defaults.
      minutes: Time in which a better network is looked for; None for that of the configuration.
      start: Component from which on cached outputs are not used; None to use all of them.
      **settings: Settings by section, such as ``model={"image_size": 160}``. They override those of
        ``config``.

    Returns:
      The outcome.

    Raises:
      ConfigError: A setting or the source is wrong.
      ResourceError: The run could not start, for example because another one uses the folder.
      KeyboardInterrupt: The run was interrupted; its folder has a report and a log.
    """
    from imgpipe.pipeline import settings as settings_module
    from imgpipe.pipeline.run import execute

    _prepare()
    if minutes is not None:
        settings["train.minutes"] = minutes
    chosen = settings_module.configuration(
        _text(config),
        _text(data),
        Path(out) if out is not None else None,
        settings_module.assignments(settings),
    )
    outcome = execute(chosen, start, to_stderr=True)
    if outcome.summary["status"] == "interrupted":
        raise KeyboardInterrupt(outcome.verdict)
    return Run(
        outcome.exit_code,
        outcome.verdict,
        outcome.summary,
        outcome.directory,
        outcome.repeated,
    )


def check(data: str | Path, *, config: str | Path | None = None, **settings: Any) -> Check:
    """Report what a run would reject, repair and warn about, as ``imgpipe check`` does.

    Progress is printed to standard error, and nothing is written.

    Args:
      data: Source of the images.
      config: TOML file, or name of a preset; None for the defaults.
      **settings: Settings by section, such as ``gate={"min_train": 20}``.

    Returns:
      The verdict and all findings.

    Raises:
      ConfigError: A setting or the source is wrong.
    """
    from imgpipe.pipeline import settings as settings_module
    from imgpipe.pipeline.commands.check import as_json, examine
    from imgpipe.pipeline.source import opened

    _prepare()
    assignments = settings_module.assignments(settings)
    chosen = settings_module.configuration(_text(config), _text(data), None, assignments)
    opened(chosen).listing()  # reports a wrong source before TensorFlow is imported
    found = examine(chosen, with_images=False, to_stderr=True)
    summary = as_json(found.judged, found.verdict, found.refused)
    reasons = tuple(summary["reasons"])
    return Check(found.verdict, bool(found.refused), reasons, summary, found)


def evaluate(
    path: str | Path,
    data: str | Path,
    *,
    version: int | None = None,
    threshold: float = 0.0,
    config: str | Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a published model on labelled images, as ``imgpipe evaluate`` does.

    Progress is printed to standard error.

        found = imgpipe.evaluate("imgpipe-out", "new-photos")
        print(found.accuracy, found.interval)

    Args:
      path: Output folder of a run, folder of numbered versions, or one version.
      data: Source of the images.
      version: Number of the version; None for the newest intact one.
      threshold: Accuracy that the model has to reach, from 0 to 1.
      config: TOML file, or name of a preset, that says how to read the data; None for the defaults.
      **settings: Settings by their names, such as ``**{"data.label_column": "species"}``.

    Returns:
      The metrics, and the page of the mistakes.

    Raises:
      ConfigError: The source, a label or a setting is wrong.
      ResourceError: There is no model, or it is damaged.
    """
    from imgpipe.pipeline import settings as settings_module
    from imgpipe.pipeline.commands import evaluate as command

    _prepare()
    chosen = settings_module.configuration(
        _text(config), _text(data), None, settings_module.assignments(settings)
    )
    asked = command.prepare(Path(path), version, chosen, threshold)
    found, _ = command.evaluate(asked, with_images=False, to_stderr=True)
    return Evaluation(found["verdict"], found, asked)


def export(kind: str, path: str | Path, to: str | Path, *, version: int | None = None) -> Export:
    """Write a published model as one file for other programs, as ``imgpipe export`` does.

    The file takes resized pixels, and is written only if its answers are those of the served model.
    Progress is printed to standard error.

        imgpipe.export("onnx", "imgpipe-out", "model.onnx")

    Args:
      kind: ``onnx``, ``keras`` or ``tflite``.
      path: Output folder of a run, folder of numbered versions, or one version.
      to: The file to write, whose name ends in ``.onnx``, ``.keras`` or ``.tflite``; one that
        exists is replaced.
      version: Number of the version; None for the newest intact one.

    Returns:
      The path of the file, and how it was compared.

    Raises:
      ConfigError: An argument is wrong, or packages of an extra are missing.
      ResourceError: There is no model, or the file cannot be written.
      ImgpipeError: The file would not answer as the model does.
    """
    from imgpipe.pipeline.commands import export as command

    _prepare()
    described = command.write(kind, Path(path), Path(to), version, to_stderr=True)
    difference = float(described["parity"]["largest_difference"])
    return Export(Path(described["file"]), difference, described)


def load(path: str | Path, version: int | None = None) -> LoadedModel:
    """Load a published model into this process, as ``imgpipe predict --model`` does.

        with imgpipe.load("imgpipe-out") as model:
            for answer in model.predict(["cat.jpg", "dog.jpg"]):
                print(answer.label, answer.probability)

    Args:
      path: Output folder of a run, folder of numbered versions, or one version.
      version: Number of the version; None for the newest intact one.

    Returns:
      The model.

    Raises:
      ConfigError: There is no version of this number.
      ResourceError: There is no model, or it is damaged.
    """
    from imgpipe.pipeline import local_model

    return LoadedModel(local_model.load(Path(path), version))


def _prepare() -> None:
    """Keep TensorFlow from printing what it is built with, as the command line does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")


def _text(value: str | Path | None) -> str | None:
    return None if value is None else os.fspath(value)
