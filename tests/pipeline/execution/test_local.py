"""Tests of which artifacts the local runner takes from the cache, and which it makes again."""

import itertools
import os
import shutil
import sys
from pathlib import Path

import pytest
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Model, ModelRun

from imgpipe.pipeline.execution import local
from tests import python_program

# TFX and TensorFlow warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")
#: Text of the node in which the process dies.
_DEADLY = "DEADLY"
_EVERY = {"First", "Second", "Other"}


@component
def First(made: OutputArtifact[Model], text: Parameter[str]) -> None:
    (Path(made.uri) / "text").write_text(text)
    if os.environ.get(_DEADLY) == text:
        os._exit(9)


@component
def Second(made: InputArtifact[Model], copied: OutputArtifact[ModelRun]) -> None:
    (Path(copied.uri) / "text").write_text((Path(made.uri) / "text").read_text())


class _Noted:
    """Notes the results of the nodes."""

    def __init__(self) -> None:
        self.results: dict[str, local.NodeResult] = {}

    def started(self, name: str) -> None: ...

    def finished(self, result: local.NodeResult) -> None:
        self.results[result.name] = result

    def failed(self, name: str, seconds: float) -> None: ...


def run(out: Path, text: str = "mine", fresh: tuple[str, ...] = ()) -> dict[str, local.NodeResult]:
    """Run a pipeline of three nodes as a new run; return the results by the name of the node."""
    names = (out / "runs" / str(number) for number in itertools.count(1))
    folder = next(folder for folder in names if not folder.exists())
    folder.mkdir(parents=True)
    first, other = First(text=text), First(text="other").with_id("Other")
    second = Second(made=first.outputs["made"])
    other.add_upstream_node(second)  # which makes it the last one
    pipeline = Pipeline(
        "two",
        str(folder / "artifacts"),
        components=[first, second, other],
        metadata_connection_config=local.metadata_config(out / "metadata.sqlite"),
        enable_cache=True,
    )
    observer = _Noted()
    local.run(pipeline, observer, fresh)
    return observer.results


def _executed(results: dict[str, local.NodeResult]) -> set[str]:
    return {name for name, result in results.items() if not result.cached}


def _folders(results: dict[str, local.NodeResult]) -> list[Path]:
    return [Path(uri) for result in results.values() for uri in result.outputs.values()]


def test_artifacts_lie_in_the_folder_of_the_run_that_made_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _executed(run(tmp_path)) == _EVERY
    results = run(tmp_path, "another")
    assert _executed(results) == {"First", "Second"}
    runs = {name: Path(result.outputs.popitem()[1]).parts[-5] for name, result in results.items()}
    assert runs == {"First": "2", "Second": "2", "Other": "1"}
    assert _executed(run(tmp_path)) == set()
    assert _executed(run(tmp_path, fresh=("Other",))) == {"Other"}
    assert "property_predicate" not in caplog.text, "the false warning of the resolver"


def test_what_lay_in_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, "another")
    shutil.rmtree(tmp_path / "runs" / "2")
    assert _executed(run(tmp_path, "another")) == {"First", "Second"}
    assert _executed(run(tmp_path)) == set()
    shutil.rmtree(tmp_path / "runs" / "1" / "artifacts" / "Second")
    assert _executed(run(tmp_path)) == {"Second"}


def test_after_the_output_folder_was_moved_everything_is_made_in_it(tmp_path: Path) -> None:
    """At its former place is another project, whose artifacts have the same numbers."""
    out, moved = tmp_path / "out", tmp_path / "moved"
    run(out)
    out.rename(moved)
    theirs = _folders(run(out))
    assert _executed(run(moved)) == _EVERY
    results = run(moved)
    assert _executed(results) == set()
    assert all(folder.is_relative_to(moved) for folder in _folders(results))
    assert all(folder.is_dir() for folder in theirs)


def test_after_the_database_was_lost_no_artifact_is_used_or_replaced(tmp_path: Path) -> None:
    first = run(tmp_path)
    (tmp_path / "metadata.sqlite").unlink()
    second = run(tmp_path, "another")
    assert _executed(second) == _EVERY
    assert not set(_folders(first)) & set(_folders(second))
    assert (_folders(first)[0] / "text").read_text() == "mine"


@pytest.mark.parametrize(("deadly", "made"), [("mine", set()), ("other", {"First", "Second"})])
def test_a_run_that_died_in_a_node_leaves_what_it_finished(
    tmp_path: Path, deadly: str, made: set[str]
) -> None:
    """What the node had written stays in the folder of that run, and is not used."""
    program = (
        "import sys, pathlib\n"
        "from tests.pipeline.execution.test_local import run\n"
        "run(pathlib.Path(sys.argv[1]))\n"
    )
    python_program.ran(sys.executable, "-c", program, tmp_path, code=9, **{_DEADLY: deadly})
    results = run(tmp_path)
    assert _executed(results) == _EVERY - made
    for name in _EVERY - made:
        assert all("2" in Path(uri).parts for uri in results[name].outputs.values())
