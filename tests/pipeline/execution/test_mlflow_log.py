"""Tests of ``run.mlflow``: what is logged, and that a run survives an unreachable server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.execution import mlflow_log
from tests.e2e.case import Case
from tests.pipeline import past_runs

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own modules warn


def _logged(folder: Path, run_id: str):
    """Return a run from MLflow's file store, and the paths of its artifacts."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file:{folder}")
    return client.get_run(run_id), {file.path for file in client.list_artifacts(run_id)}


def _left(tmp_path: Path, uri: str):
    """Write a past run that published a version; return its configuration, folder and summary."""
    version = tmp_path / "out" / "model" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"model")
    (version / "README.md").write_text("# card")
    folder = past_runs.leave(tmp_path / "out", "20260101-000000", version=1)
    summary = json.loads((folder / "summary.json").read_text())
    summary["push"]["path"] = str(version)
    summary["cross_validation"] = {"mean": 0.92, "std": 0.03}
    summary["metrics"] = {"validation": {"accuracy": 0.9, "loss": 0.3, "ece": 0.02}}
    return configs.build({"run": {"mlflow": uri, "name": "hands"}}), folder, summary


def test_settings_metrics_page_and_model_are_logged(tmp_path):
    config, folder, summary = _left(tmp_path, f"file:{tmp_path / 'mlruns'}")
    logged = mlflow_log.log(config, folder, summary)
    assert isinstance(logged, dict), logged
    assert (logged["uri"], logged["experiment"]) == (config.run.mlflow, "hands")
    run, files = _logged(tmp_path / "mlruns", logged["run_id"])
    assert set(run.data.params) == set(configs.known_keys())
    assert run.data.params["evaluate.threshold"] == str(config.evaluate.threshold)
    assert run.data.metrics["validation.accuracy"] == 0.9
    assert (run.data.metrics["folds.accuracy"], run.data.metrics["folds.std"]) == (0.92, 0.03)
    assert run.data.metrics["data.kept"] == summary["data"]["kept"]
    assert run.data.tags["imgpipe.status"] == "blessed" and run.info.status == "FINISHED"
    assert files == {"report.html", "summary.json", "config.toml", "model", "README.md"}


def test_a_refused_run_is_logged_without_a_model(tmp_path):
    config, _, _ = _left(tmp_path, f"file:{tmp_path / 'mlruns'}")
    folder = past_runs.leave(tmp_path / "other", "20260102-000000", status="refused", correct=None)
    logged = mlflow_log.log(config, folder, json.loads((folder / "summary.json").read_text()))
    assert isinstance(logged, dict), logged
    run, files = _logged(tmp_path / "mlruns", logged["run_id"])
    assert run.info.status == "FAILED" and files == {"report.html", "summary.json", "config.toml"}


@pytest.mark.parametrize("uri", ["http://localhost:1", "nothing://here"])
def test_an_unreachable_server_gives_a_message_instead_of_an_error(tmp_path, uri):
    config, folder, summary = _left(tmp_path, uri)
    said = mlflow_log.log(config, folder, summary)
    assert isinstance(said, str)
    assert said.startswith(f"the run was not logged to MLflow at {uri}: ")
    assert said.endswith("repeat the command with --from Report")


def test_a_run_that_cannot_be_logged_whole_has_failed_in_mlflow(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    def full(self, *given):
        raise OSError("No space left on device")

    monkeypatch.setattr(MlflowClient, "log_artifact", full)
    config, folder, summary = _left(tmp_path, f"file:{tmp_path / 'mlruns'}")
    assert "No space left on device" in str(mlflow_log.log(config, folder, summary))
    client = MlflowClient(config.run.mlflow)
    [run] = client.search_runs([client.get_experiment_by_name("hands").experiment_id])
    assert run.info.status == "FAILED"


def test_a_password_in_the_uri_and_a_missing_package_are_refused(monkeypatch):
    mlflow_log.check("")
    mlflow_log.check("http://localhost:5000")
    with pytest.raises(ConfigError, match=r"holds a password.*MLFLOW_TRACKING_PASSWORD"):
        mlflow_log.check("http://me:secret@localhost:5000")
    with pytest.raises(ConfigError, match=r"'http://\[::1' is no address: Invalid IPv6"):
        mlflow_log.check("http://[::1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        ConfigError, match=r"needs the package mlflow.*pip install 'mlflow-skinny>=3'"
    ):
        mlflow_log.check("file:mlruns")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_run_is_logged(tmp_path, tmp_path_factory):
    from imgpipe.pipeline.demo import draw

    drawn = draw(tmp_path_factory.mktemp("drawn") / "photos", per_class=24, size=112)
    case = Case(Path(drawn.directory), tmp_path / "out")
    outcome = case.run(f"run.mlflow=file:{tmp_path / 'mlruns'}")
    assert outcome.exit_code == 0, outcome.verdict
    assert json.loads((outcome.directory / "summary.json").read_text()) == outcome.summary
    run, files = _logged(tmp_path / "mlruns", outcome.summary["mlflow"]["run_id"])
    accuracy = outcome.summary["metrics"]["validation"]["accuracy"]
    assert run.data.metrics["validation.accuracy"] == accuracy
    assert {"model", "report.html", "README.md"} <= files
    gone = case.run("run.mlflow=http://localhost:1")
    assert gone.exit_code == 0 and gone.summary["mlflow"] is None
    assert "was not logged to MLflow at http://localhost:1" in gone.summary["warnings"][-1]
