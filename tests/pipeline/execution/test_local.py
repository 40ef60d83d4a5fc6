"""Tests of which artifacts the local runner takes from the cache, and which it makes again."""

import shutil
from pathlib import Path

import pytest
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Model, ModelRun

from imgpipe.components.common.storage import integrity
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.execution import local
from tests.pipeline.past_runs import leave

# TFX and TensorFlow warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


@component
def First(made: OutputArtifact[Model], text: Parameter[str]) -> None:
    (Path(made.uri) / "text").write_text(text)


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

    def damaged(self, name: str, what: str) -> None: ...


def _run(out: Path, text: str = "mine", fresh: tuple[str, ...] = ()) -> dict[str, local.NodeResult]:
    """Run a pipeline of three nodes; return the results by the name of the node."""
    first, other = First(text=text), First(text="other").with_id("Other")
    pipeline = Pipeline(
        "two",
        str(out / "artifacts"),
        components=[first, Second(made=first.outputs["made"]), other],
        metadata_connection_config=local.metadata_config(out / "metadata.sqlite"),
        enable_cache=True,
    )
    observer = _Noted()
    out.mkdir(exist_ok=True)
    local.run(pipeline, observer, fresh)
    return observer.results


def _folders(results: dict[str, local.NodeResult]) -> list[Path]:
    return [Path(uri) for result in results.values() for uri in result.outputs.values()]


def test_artifacts_of_another_project_at_the_former_place_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    _run(out)
    out.rename(moved)
    theirs = _folders(_run(out))
    for _ in range(2):
        results = _run(moved)
        assert all(folder.is_relative_to(moved) for folder in _folders(results))
    assert all(result.cached for result in results.values())
    assert [integrity.damage(folder, complete=True) for folder in theirs] == [""] * 3
    assert "property_predicate" not in caplog.text, "the false warning of the resolver"


def test_all_damaged_results_of_the_same_parameters_are_passed_over(tmp_path: Path) -> None:
    both = _folders(_run(tmp_path)) + _folders(_run(tmp_path, fresh=("First", "Other")))
    for folder in both:
        integrity.seal_file(folder).unlink()
    results = _run(tmp_path)
    assert not set(both) & set(_folders(results))
    assert not any(result.cached for result in results.values())


def test_an_artifact_that_is_damaged_in_the_run_that_made_it_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = integrity.seal

    def damaged(folder: Path) -> None:
        seal(folder)
        if "First" in folder.parts:
            (folder / "text").write_text("damaged")

    other = _run(tmp_path)["Other"].outputs["made"]
    (Path(other) / "text").unlink()  # for which all nodes are launched a second time
    monkeypatch.setattr(integrity, "seal", damaged)
    with pytest.raises(ResourceError, match="was made in this run and is damaged already"):
        _run(tmp_path, fresh=("First",))


@pytest.mark.parametrize("lost", ["metadata.sqlite", "artifacts"])
def test_after_the_database_was_lost_no_folder_is_used_again(tmp_path: Path, lost: str) -> None:
    """Its artifacts may be lost as well, but not what the earlier run recorded about them."""
    first = _run(tmp_path)
    artifacts = {name: result.outputs for name, result in first.items()}
    leave(tmp_path, "20260101-100000", artifacts=artifacts)
    (tmp_path / "metadata.sqlite").unlink()
    if lost == "artifacts":
        shutil.rmtree(tmp_path / lost)
    second = _run(tmp_path, "another")
    assert not set(_folders(first)) & set(_folders(second))
    assert not any(result.cached for result in second.values())
    assert lost == "artifacts" or (_folders(first)[0] / "text").read_text() == "mine"
