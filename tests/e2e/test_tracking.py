"""The blocks of the page on MLflow, with a server of MLflow in an environment of its own.

MLflow is no dependency of imgpipe, so that it comes from the package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import toml_text
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks
from tests.e2e.case import SETTINGS, Case
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_UV = shutil.which("uv") or REPOSITORY / ".tools" / "bin" / "uv"
_READ = """
import mlflow

[run] = mlflow.search_runs(search_all_experiments=True, output_format="list")
files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
print([run.data.metrics["accuracy"], run.data.tags["blessed"], sorted(files)])
"""


def _uv(*words: str | Path) -> str:
    """Run uv and return what it prints; skip the test where it cannot install anything."""
    if not Path(_UV).exists():
        pytest.skip("needs uv")
    done = subprocess.run(
        [_UV, "pip", *words],
        env={**os.environ, "UV_SYSTEM_CERTS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"needs a package index: {done.stderr[-300:]}")
    return done.stdout


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the client as a user would beside the packages that are there; return its folder."""
    folder = tmp_path_factory.mktemp("client")
    frozen = _uv("freeze", "--python", sys.executable).splitlines()
    locked = folder / "locked.txt"
    locked.write_text("\n".join(line for line in frozen if "==" in line))
    _uv(
        *("install", "--python", sys.executable, "--target", folder / "packages"),
        *("mlflow-skinny", "--constraint", locked),
    )
    return folder / "packages"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server of MLflow, and yield its address."""
    folder = tmp_path_factory.mktemp("server")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    _uv("install", "--python", folder / "venv" / "bin" / "python", "mlflow")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = ("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = ("--backend-store-uri", f"sqlite:///{folder}/runs.db")
    command = [folder / "venv" / "bin" / "mlflow", *words, *stores]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", folder / "files"],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(f"{address}/health")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _wait(address: str) -> None:
    end = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, f"{address} does not answer"
            time.sleep(1)


def test_a_run_is_logged_with_the_accuracy_that_decided(
    case: Case, first: Any, client: Path, server: str, tmp_path: Path
) -> None:
    settings = configs.build({**SETTINGS, "run": {"name": "hands", "out": str(case.out)}})
    (tmp_path / "hands.toml").write_text(toml_text.to_toml(settings))
    page = REPOSITORY / "docs" / "how-to" / "tracking.md"
    text = "\n".join(block.text for block in blocks(page) if block.language == "python")
    given = f"{str(case.photos)!r}, {str(case.out)!r}, config={str(tmp_path / 'hands.toml')!r}"
    code = text.replace('"PHOTOS", "OUT"', given).replace("http://HOST:PORT", server) + _READ
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": str(client)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    accuracy = first.summary["gate"]["decided_by"]["accuracy"]
    files = ["config.toml", "model", "report.html"]
    assert done.stdout.splitlines()[-1] == str([accuracy, "True", files])
