"""Logs a run to MLflow with MLflow's own client: settings, metrics, page, model and model card.

The client is an optional package. An error of the client must not fail the run, so every error is
returned as a sentence.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import signals

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from imgpipe.pipeline.configuration.config import Config

_BATCH = 100  # parameters in one request, which is MLflow's limit
_LONGEST = 500  # characters of a parameter, the limit of MLflow's older servers
_FILES = ("report.html", "summary.json", "config.toml")
_PUBLISHED = ("pushed", "unchanged")
_MODEL, _CARD = "model", "README.md"
_FINISHED, _FAILED = "FINISHED", "FAILED"
#: With these variables, the client gives up within seconds instead of minutes when the server does
#: not answer, sends no telemetry, and accepts a folder as a tracking store.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


def check(uri: str) -> None:
    """Refuse a run that could not be logged, before it starts.

    Args:
        uri: Value of ``run.mlflow``; "" logs nothing.

    Raises:
        ConfigError: The client is not installed, or the URI holds a password.
    """
    if not uri:
        return
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"run.mlflow = {uri!r} needs the package mlflow, which is not installed. Install it "
            "with: pip install 'mlflow-skinny>=3', or uv sync --extra mlflow"
        )
    try:
        password = urllib.parse.urlsplit(uri).password
    except ValueError as error:
        raise ConfigError(f"run.mlflow = {uri!r} is no address: {error}") from None
    if password is not None:
        raise ConfigError(
            "run.mlflow holds a password, which would be written to the files of the run. Remove "
            "it, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead."
        )


def log(config: Config, directory: Path, summary: Mapping[str, Any]) -> dict[str, str] | str:
    """Log a run that has ended.

    Args:
        config: The configuration, which names the server and the experiment.
        directory: Folder of the run.
        summary: The summary of the run.

    Returns:
        ``{"uri", "experiment", "run_id"}``, or a sentence that says why the run was not logged.
    """
    uri = config.run.mlflow
    try:
        return _log(config, directory, summary)
    # Ctrl-C too: the run has ended and its summary is written, so only the logging is left out.
    except (Exception, KeyboardInterrupt, signals.Stopped) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"the run was not logged to MLflow at {uri}: {lines[0][:300]}. Nothing else is lost. "
            "Check run.mlflow and the server; to log the run after all, repeat the command with "
            "--from Report"
        )


def _log(config: Config, directory: Path, summary: Mapping[str, Any]) -> dict[str, str]:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # what the user has set is kept
    from mlflow.tracking import MlflowClient

    client = MlflowClient(config.run.mlflow)
    experiment = _experiment(client, config.run.name)
    started = client.create_run(experiment, run_name=directory.name, tags=_tags(summary))
    run_id = started.info.run_id
    try:
        _fill(client, started.info, config, directory, summary)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            client.set_terminated(run_id, _FAILED)
        raise
    ended = summary["status"] in ("blessed", "not_blessed")
    client.set_terminated(run_id, _FINISHED if ended else _FAILED)
    return {"uri": config.run.mlflow, "experiment": config.run.name, "run_id": run_id}


def _fill(
    client: Any, info: Any, config: Config, directory: Path, summary: Mapping[str, Any]
) -> None:
    """Write the settings, figures and files of a run into its MLflow run."""
    from mlflow.entities import Metric, Param

    run_id, now = info.run_id, info.start_time
    pairs = [Param(key, value) for key, value in parameters(config)]
    for batch in _batches(pairs):
        client.log_batch(run_id, params=batch)
    # Step 0, because each value is the final one of the run.
    figures = [Metric(key, value, now, 0) for key, value in metrics(summary)]
    for batch in _batches(figures):
        client.log_batch(run_id, metrics=batch)
    for file in (directory / name for name in _FILES):
        if file.is_file():
            client.log_artifact(run_id, str(file))
    if summary["push"]["status"] in _PUBLISHED:
        version = Path(summary["push"]["path"])
        client.log_artifacts(run_id, str(version), _MODEL)
        if (version / _CARD).is_file():
            client.log_artifact(run_id, str(version / _CARD))


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _tags(summary: Mapping[str, Any]) -> dict[str, str]:
    """Tags by which runs are found, and the verdict as the description that MLflow shows."""
    return {
        "imgpipe.status": summary["status"],
        "imgpipe.version": str(summary["push"]["version"] or ""),
        "mlflow.note.content": summary["verdict"],
    }


def parameters(config: Config) -> Iterator[tuple[str, str]]:
    """Yield all settings by ``section.key``, as MLflow takes them.

    Args:
        config: The configuration.
    """
    from imgpipe.pipeline.configuration.config import known_keys

    tree = config.model_dump(mode="json")
    for name in known_keys():
        value: Any = tree
        for part in name.split("."):
            value = value[part]
        yield name, str(value)[:_LONGEST]


def metrics(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures of a summary by name, such as ``validation.accuracy``.

    Args:
        summary: The summary of a run.
    """
    for split, figures in (summary["metrics"] or {}).items():
        for name in ("accuracy", "loss", "ece"):
            yield f"{split}.{name}", float(figures[name])
    if folds := summary.get("cross_validation"):
        for name, key in (("accuracy", "mean"), ("std", "std")):
            yield f"folds.{name}", float(folds[key])
    for name in ("in", "kept", "rejected", "repaired"):
        yield f"data.{name}", float(summary["data"][name])
    yield "total_s", float(summary["timings"]["total_s"])
    for name, seconds in summary["timings"]["components"].items():
        yield f"seconds.{name}", float(seconds)


def _batches(entries: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(entries), _BATCH):
        yield list(entries[start : start + _BATCH])
