"""Tests of how a run ends: exit codes and messages of failures, and which run is repeated."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError, DataRefused, ResourceError
from imgpipe.models.network import classifier
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.given_settings import assigned
from imgpipe.pipeline.execution import failures, pipeline_run
from imgpipe.pipeline.execution.pipeline_run import execute
from imgpipe.pipeline.output.output_folder import DATABASE, OutputFolder
from imgpipe.pipeline.output.run import Run
from tests.images import folder_of
from tests.pipeline.past_runs import leave

OUT = Path("/photos/out")


def _raised(error: Exception, cause: BaseException) -> Exception:
    """Return `error` as it is when it was raised from `cause`."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (_raised(RuntimeError("in a worker"), DataRefused("too few cats")), 4),
        (_raised(RuntimeError("in a worker"), ConfigError("no such folder")), 2),
        (_raised(RuntimeError("saving"), OSError(errno.ENOSPC, "No space left on device")), 5),
        (RuntimeError("OSError: No space left on device [while running 'Write']"), 5),
        (RuntimeError("disk I/O error query: INSERT INTO `Artifact`"), 5),
        (RuntimeError("database or disk is full query: COMMIT"), 5),
        (_raised(RuntimeError("reading"), OSError(errno.EIO, "Input/output error")), 5),
        (MemoryError(), 5),
        (RuntimeError("OOM when allocating tensor with shape[64,112,112,32] on CPU:0"), 5),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", str(OUT / "runs/1")), 5),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/elsewhere"), 1),
        (RuntimeError("KeyboardInterrupt [while running 'Extract']"), 130),
        (RuntimeError("something else"), 1),
    ],
)
def test_the_exit_code_is_that_of_the_cause(error: Exception, exit_code: int):
    actionable = failures.actionable(error, OUT)
    assert failures.exit_code(actionable) == exit_code
    assert exit_code == 1 or "query: " not in str(actionable), "no SQL is shown"


def test_the_cause_of_an_unknown_error_is_one_line():
    assert failures.cause(ValueError("first\nsecond")) == "ValueError: first"
    assert failures.cause(None) == ""


def test_sql_of_the_metadata_database_is_not_shown(tmp_path: Path):
    mlmd = pytest.importorskip("ml_metadata")
    from ml_metadata.proto import metadata_store_pb2

    (tmp_path / DATABASE).write_bytes(b"garbage" * 1000)
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / DATABASE)
    with pytest.raises(RuntimeError, match="CREATE TABLE") as caught:
        mlmd.MetadataStore(config)
    known = failures.actionable(caught.value, tmp_path)
    assert isinstance(known, ResourceError)
    assert str(known) == (
        f"{tmp_path / DATABASE} cannot be used: another program uses it, or it is damaged. Wait "
        "for that program, or delete a damaged file: the next run executes every component, and "
        "versions, stored features and results of inspection are kept."
    )


def test_a_database_that_stays_locked_is_no_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    metadata = pytest.importorskip("tfx.orchestration.metadata")

    def locked(config: object) -> None:
        raise RuntimeError("Concurrent writes aborted after max number of retries.")

    monkeypatch.setattr(metadata.mlmd, "MetadataStore", locked)
    monkeypatch.setattr(metadata, "_MAX_INIT_RETRY", 1)
    config = metadata.sqlite_metadata_connection_config(str(tmp_path / DATABASE))
    with (
        pytest.raises(RuntimeError, match="Failed to establish connection") as caught,
        metadata.Metadata(config),
    ):
        pass
    known = failures.actionable(caught.value, tmp_path)
    assert failures.exit_code(known) == 5
    assert "cannot be used: another program uses it" in str(known)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("model.cut=conv2", "course.fine_tune.cut=conv1"), ""),
        (("model.cut=nowhere",), "expected the name of a layer. Received: 'nowhere'"),
        (("course.fine_tune.cut=nowhere",), "expected the name of a layer. Received: 'nowhere'"),
        (("course.fine_tune.cut=nowhere", "course.fine_tune.mode=off"), ""),
        (("model.features=nowhere",), "model.features: expected the name of a layer"),
        # Networks read the last map alone.
        (("model.features=conv1", "course.fine_tune.cut=conv2"), ""),
    ],
)
def test_names_of_layers_are_checked_before_the_images(settings: tuple[str, ...], expected: str):
    model = {"backbone": "conv_8_8_8", "weights": "none", "image_size": 32}
    refused = pytest.raises(ConfigError, match=expected) if expected else contextlib.nullcontext()
    with refused:
        tree = {"model": model, "course": {"freeze": "all"}}
        classifier.require_layers(configs.build(tree, assigned(settings)))


def test_a_file_in_the_way_in_the_output_folder_is_named(tmp_path: Path):
    photos = folder_of(tmp_path / "photos")
    out = tmp_path / "out"
    out.mkdir()
    (out / "runs").write_text("in the way")
    config = configs.build({"run": {"out": str(out)}, "data": {"source": str(photos)}})
    with pytest.raises(ResourceError, match=str(out / "runs")):
        execute(config)


def _ended(out: Path, name: str, changed: int) -> Path:
    """Write the folder of a finished run, whose record was modified at `changed` seconds."""
    folder = leave(out, name, artifacts={})
    pipeline_run.remember(Run(folder, Run.read(folder).result), "outcome")
    os.utime(folder / pipeline_run.REPEAT, (changed, changed))
    return folder


def _candidate(out: Path, more: str = "") -> Path | None:
    settings = next(out.glob("runs/*/config.toml"), Path("/dev/null")).read_text()
    run = pipeline_run.repeatable(OutputFolder(out).started, settings + more)
    return run and run.folder


def test_the_last_run_is_the_candidate_even_if_the_clock_was_set_back(tmp_path: Path):
    assert _candidate(tmp_path) is None
    _ended(tmp_path, "20260101-120000", changed=2_000)
    last = _ended(tmp_path, "20260101-120000-2", changed=1_000)
    assert _candidate(tmp_path) == last
    assert _candidate(tmp_path, "# other settings") is None
    result = last / "result.json"
    result.write_text(result.read_text() + "\n")
    assert _candidate(tmp_path) is None, "an edited result is no outcome"


def test_no_run_is_repeated_after_another_one_that_was_refused(tmp_path: Path):
    _ended(tmp_path, "20260101-120000", 1)
    refused = tmp_path / "runs" / "20260101-120001"
    refused.mkdir()
    (refused / "config.toml").write_text(
        (tmp_path / "runs/20260101-120000/config.toml").read_text()
    )
    assert _candidate(tmp_path) is None


@pytest.mark.parametrize(("code", "refused_by"), [(1, []), (3, ["other_version"])])
def test_a_failed_run_and_one_during_which_another_version_was_published_are_not_repeated(
    tmp_path: Path, code: int, refused_by: list[str]
):
    folder = leave(tmp_path, "20260101-120000", artifacts={})
    result = Run.read(folder).result
    result["push"]["refused_by"] = refused_by
    pipeline_run.remember(Run(folder, result, exit_code=code), "outcome")
    assert _candidate(tmp_path) is None


def test_a_run_with_another_key_or_whose_artifacts_are_gone_is_not_repeated(tmp_path: Path):
    run = Run.read(_ended(tmp_path, "20260101-120000", 1))
    for key in ("another", "outcome"):
        assert pipeline_run.outcome_again(run, key, began=0.0) is None
