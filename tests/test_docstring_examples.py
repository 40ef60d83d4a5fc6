"""Runs the examples in docstrings (`>>>`), and compares their results with the quoted ones.

They share a folder with images. Of the examples of the Python interface, the first one is a run of
the pipeline, whose model is used by the others and by the examples of some other modules.
"""

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgpipe
from imgpipe.pipeline.demo import LABELS, draw, draw_hand
from tests.conftest import REPOSITORY
from tests.serving.quick import running

_FOLDERS = ("components", "models", "pipeline", "serving")
#: The Python interface, whose first example is a run.
_RUN = "imgpipe.pipeline.api"
#: Modules whose examples need the model that the run leaves.
_NEED_MODEL = {_RUN, "imgpipe.pipeline.output.output_folder", "imgpipe.serving.client.client"}
#: Address in the examples of the client. The tests start their server on a free port instead.
_SERVER = "localhost:8500"


def _modules() -> list[str]:
    files = [file for folder in _FOLDERS for file in sorted((REPOSITORY / folder).rglob("*.py"))]
    with_examples = [file for file in files if ">>> " in file.read_text("utf-8")]
    parts = [file.relative_to(REPOSITORY).with_suffix("").parts for file in with_examples]
    return [".".join(("imgpipe", *names)) for names in parts]


def _failures(module: str, server: str = _SERVER) -> str:
    """Run the examples of a module in the order of the source; return the report of failed ones."""
    report: list[str] = []
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(importlib.import_module(module), extraglobs={"imgpipe": imgpipe})
    for docstring in sorted(found, key=lambda one: one.lineno or 0):
        for example in docstring.examples:
            example.source = example.source.replace(_SERVER, server)
        doctest.DocTestRunner().run(docstring, out=report.append)
    return "".join(report)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Change to a folder with what the examples use: photos, new-photos, and an image of each."""
    root = tmp_path_factory.mktemp("examples")
    draw(root / "photos", per_class=40, size=112)
    for label in LABELS:
        draw_hand(label, 987_654, 160).save(root / f"{label}.jpg")
        (root / "new-photos" / label).mkdir(parents=True)
        for seed in range(4):
            drawn = draw_hand(label, 5000 + seed, 112)
            drawn.save(root / "new-photos" / label / f"{seed}.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield root


@pytest.fixture(scope="module")
def failures_of_run(folder: Path) -> str:
    """Run the examples of the Python interface, which leave a model; return their report."""
    return _failures(_RUN)


@pytest.fixture(scope="module")
def server(folder: Path, failures_of_run: str) -> Iterator[str]:
    """Serve the model; yield the address."""
    with running(folder / "imgpipe-out" / "model", "imgpipe") as server:
        yield server.target


@pytest.mark.parametrize("module", [name for name in _modules() if name not in _NEED_MODEL])
def test_the_examples_of_a_module_give_what_they_show(module: str) -> None:
    assert not _failures(module)


@pytest.mark.slow  # a run with the default settings
def test_the_examples_that_need_a_model_give_what_they_show(
    failures_of_run: str, server: str
) -> None:
    assert not failures_of_run
    for module in _NEED_MODEL - {_RUN}:
        assert not _failures(module, server)
