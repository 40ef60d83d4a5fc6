"""Tests of which run or version a path on the command line means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.output import places
from tests.pipeline.past_runs import leave

FIRST, SECOND, LAST = "20260101-100000", "20260102-100000", "20260103-100000"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder of three runs: versions 1 and 2, and one that was refused."""
    out = tmp_path / "20261121"  # a name that is no version
    leave(out, FIRST, version=1)
    leave(out, SECOND, version=2)
    leave(out, LAST, status="refused", correct=None)
    for number in (1, 2):
        (out / f"model/{number}").mkdir(parents=True)
        (out / f"model/{number}/saved_model.pb").touch()
    return out


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", SECOND),
        ("model", SECOND),
        ("runs", SECOND),
        ("model/1", FIRST),
        ("model/../model/1", FIRST),
        (f"runs/{FIRST}", FIRST),
        (f"runs/{LAST}", LAST),
    ],
)
def test_a_run_is_found_by_its_folder_its_version_or_the_output_folder(
    out: Path, path: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    assert places.run(out / path).name == name
    monkeypatch.setenv("HOME", str(out.parent))
    assert places.run(Path("~") / out.name / path).name == name


def test_of_an_output_folder_the_newest_run_that_fits_is_taken(out: Path):
    assert places.run(out, lambda run: run.page.is_file(), "has a report").name == LAST
    with pytest.raises(
        ResourceError, match=r"no run in .* has a page\. .* newest are: .*, 20260103"
    ):
        places.run(out, lambda run: False, "has a page")
    with pytest.raises(ResourceError, match="published version 7"):
        places.run(out / "model/7")


@pytest.mark.parametrize("path", ["runs/20260104-100000", "runs/20260105-100000", "modl"])
def test_a_misspelled_or_deleted_run_is_not_replaced_by_another(out: Path, path: str):
    (out / "runs/20260105-100000").mkdir()
    with pytest.raises(ResourceError, match=rf"no run in {out / path}\. Expected: .*imgpipe runs"):
        places.run(out / path)


@pytest.mark.parametrize(
    ("path", "received"),
    [("empty", "it holds nothing"), ("gone", "there is no such folder"), ("file", "a file")],
)
def test_what_is_at_a_path_without_runs_is_named(tmp_path: Path, path: str, received: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=rf"no run in .*Received: {received}"):
        places.output_folder(tmp_path / path)
    with pytest.raises(ResourceError, match=rf"no model in .*Received: {received}"):
        places.versions(tmp_path / path)


def test_where_no_run_was_blessed_the_ways_on_are_named(tmp_path: Path):
    leave(tmp_path, FIRST, status="not_blessed", correct=17)
    leave(tmp_path, LAST, status="failed", correct=None)
    with pytest.raises(ResourceError, match="no model is published") as caught:
        places.versions(tmp_path)
    told = str(caught.value)
    assert f"no model is published in {tmp_path}, although {tmp_path} has 2 runs" in told
    assert "The newest that evaluated one: not_blessed: a sentence." in told
    lines = told.splitlines()
    assert f"  imgpipe serve {tmp_path} --run newest" in lines
    config = tmp_path / "runs" / FIRST / "config.toml"
    assert f"  imgpipe run --config {config} --set evaluate.threshold=0.85" in lines


def test_where_no_run_has_evaluated_a_model_the_report_is_named(tmp_path: Path):
    leave(tmp_path, FIRST, status="refused", correct=None)
    with pytest.raises(
        ResourceError, match=r"The newest: refused: a sentence\. .*\n  imgpipe open"
    ):
        places.version(tmp_path)


def test_the_run_of_a_version_in_another_folder_is_found(out: Path):
    """Both folders have a version 1."""
    other = out / "staging"
    leave(out, "20260109-100000", version=1, settings=(f"push.directory={json.dumps(str(other))}",))
    assert places.run(out / "model/1").name == FIRST
    assert places.run(out / "staging/1").name == "20260109-100000"


@pytest.mark.parametrize(
    ("path", "number", "expected"),
    [
        ("", None, "2"),
        ("model", 1, "1"),
        ("model/1", None, "1"),
        ("model/1", 1, "1"),
        ("current", None, "1"),
        ("saved", None, "saved"),
    ],
)
def test_a_version_is_found(out: Path, path: str, number: int | None, expected: str):
    (out / "current").symlink_to(out / "model/1")
    (out / "saved").mkdir()
    (out / "saved/saved_model.pb").touch()
    assert places.version(out / path, number).name == expected


def test_versions_that_do_not_exist_are_refused(out: Path):
    with pytest.raises(ConfigError, match=r"has no version 7\. Versions: 1, 2\."):
        places.version(out, 7)
    with pytest.raises(ConfigError, match=r"is one version; remove --version 2"):
        places.version(out / "model/1", 2)
    with pytest.raises(ConfigError, match=r"as an integer\. Received: 'two'"):
        places.version(out, "two")  # type: ignore[arg-type]
    (out / "model/2/manifest.json").write_text("{")
    with pytest.raises(ResourceError, match=r"model/2 is damaged: .*imgpipe rollback"):
        places.version(out, 2)
    (out / "model/1").rename(out / "saved")
    with pytest.raises(ResourceError, match="not named by a version"):
        places.versions(out / "saved")


@pytest.mark.parametrize("path", ["", "model", "model/0003"])
def test_a_version_with_zeros_before_its_number_is_refused_with_its_new_name(out: Path, path: str):
    """A server of TensorFlow takes it for version 3, and it would be the newest there."""
    (out / "model/2").rename(out / "model/0003")
    with pytest.raises(ResourceError, match=r"Rename it: mv .*/model/0003 .*/model/3"):
        places.versions(out / path)
