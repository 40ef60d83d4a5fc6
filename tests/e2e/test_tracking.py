"""The blocks of the page on MLflow, with its client in a folder of its own and runs in files.

MLflow is no dependency of imgpipe, so that it comes from the package index.
"""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests import python_program
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks
from tests.e2e.case import Case
from tests.packaging.conftest import failure, program_of_uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_READ = """
import mlflow

[run] = mlflow.search_runs(search_all_experiments=True, output_format="list")
files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
print([run.data.metrics["accuracy"], run.data.tags["blessed"], sorted(files)])
"""


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """Install the client as a user would beside the packages that are there; return its folder."""
    uv, here = program_of_uv(), ("--python", sys.executable)
    frozen = python_program.ran(uv, "pip", "freeze", *here).stdout.splitlines()
    locked = tmp_path / "locked.txt"
    locked.write_text("\n".join(line for line in frozen if "==" in line))
    command = (uv, "pip", "install", "mlflow-skinny", "--constraint", locked, *here)
    why = failure(*command, "--target", tmp_path / "packages", cwd=tmp_path)
    if why:
        pytest.skip(f"needs a package index: {why[-300:]}")
    return tmp_path / "packages"


def test_a_run_is_logged_with_the_accuracy_that_decided(
    case: Case, first: Any, client: Path, tmp_path: Path
) -> None:
    page = REPOSITORY / "docs" / "how-to" / "tracking.md"
    text = "\n".join(block.text for block in blocks(page) if block.language == "python")
    config = str(case.config_file(tmp_path))
    code = text.replace(
        '"PHOTOS", "OUT"', f"{str(case.photos)!r}, {str(case.out)!r}, config={config!r}"
    ).replace("http://HOST:PORT", (tmp_path / "runs").as_uri())
    variables = {"PYTHONPATH": str(client), "MLFLOW_ALLOW_FILE_STORE": "true"}
    program = (sys.executable, "-W", "ignore", "-c", code + _READ)
    done = python_program.ran(*program, **variables)
    files = ["config.toml", "model", "report.html"]
    assert done.stdout.splitlines()[-1] == str([first.accuracy, "True", files])
