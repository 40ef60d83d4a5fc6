"""The notebook of the documentation, executed cell by cell in IPython's shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_NOTEBOOK = REPOSITORY / "docs" / "interactive.ipynb"
_SET = (
    "model.backbone=conv_8_16 model.weights=none model.freeze=all model.image_size=32 "
    "evaluate.threshold=0 split.validation=0.25 gate.min_train=1 gate.min_validation=1 "
    "gate.max_rejected_share=0.9"
)
#: TFX runs nothing outside of IPython; a shell runs the cells as a kernel does.
_RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
"""


def test_every_cell_runs_and_a_model_is_pushed(case: Case, tmp_path: Path) -> None:
    places = {"IMGPIPE_PHOTOS": str(case.photos), "IMGPIPE_OUT": str(tmp_path / "out")}
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, str(_NOTEBOOK)],
        env={**os.environ, **places, "IMGPIPE_SET": _SET},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    page, pushed = ended.stdout.splitlines()[-2:]
    assert (Path(page) / "report.html").is_file()
    assert pushed == f"pushed {tmp_path / 'out' / 'model' / '1'}"


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = json.loads(_NOTEBOOK.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
