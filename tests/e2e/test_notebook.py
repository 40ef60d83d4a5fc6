"""Executes the notebook of the documentation, cell by cell, in IPython's shell."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import python_program
from tests.conftest import REPOSITORY
from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_PHOTOGRAPHS = REPOSITORY / "docs" / "photographs.ipynb"
#: IPython's shell runs the cells as a kernel does.
_RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
"""


def test_every_cell_of_photographs_runs_and_a_model_is_served(
    case: Case, first: Any, tmp_path: Path
) -> None:
    places = {"IMGPIPE_PHOTOS": str(case.photos), "IMGPIPE_OUT": str(case.out)}
    config = str(case.config_file(tmp_path))
    command = (sys.executable, "-c", _RUN, _PHOTOGRAPHS)
    ended = python_program.ran(*command, seconds=850, IMGPIPE_CONFIG=config, **places)
    for library in ("tensorflow", "apache_beam"):  # what it logs would stand red in a cell
        assert f":{library}" not in ended.stderr
    printed = ended.stdout.splitlines()
    assert any(line.startswith("usable: 76 of 87 images kept") for line in printed)
    accuracy = f"blessed: validation accuracy {first.accuracy:.3f}"
    assert any(line.startswith(accuracy) for line in printed)
    # Other tests may have run in this folder since, so that the model is published once more.
    newest = max(int(one.name) for one in (case.out / "model").iterdir() if one.name.isdigit())
    assert printed[-1].startswith(f"version {newest} says ")


def test_photographs_predicts_images_whatever_their_format_and_the_case_of_their_names(
    tmp_path: Path,
) -> None:
    for name in ("IMG_1.JPG", "b.png", "c.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    cells = json.loads(_PHOTOGRAPHS.read_text("utf-8"))["cells"]
    [source] = [text for cell in cells if (text := "".join(cell["source"])).startswith("files =")]
    variables: dict[str, Any] = {"Path": Path, "photos": str(tmp_path)}
    exec(source.partition("with ")[0], variables)
    assert [path.name for path in variables["images"]] == ["IMG_1.JPG", "b.png", "c.jpeg"]


def test_the_notebook_of_photographs_is_stored_with_its_pictures() -> None:
    """Of its outputs, the pages are left out, which take megabytes and hold paths of a machine."""
    cells = json.loads(_PHOTOGRAPHS.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    kinds = [kind for output in outputs for kind in output.get("data", ())]
    assert kinds.count("image/jpeg") == 3 and "text/html" not in kinds
    printed = "".join("".join(output.get("text", ())) for output in outputs)
    assert "usable: " in printed and "blessed: " in printed and "version 1 says " in printed
