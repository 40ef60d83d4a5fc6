"""Tests of which run a path on the command line means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.output import lookup
from tests.pipeline.past_runs import FIRST, LAST, SECOND, leave, leave_three


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder of three runs: versions 1 and 2, and one that was refused."""
    return leave_three(tmp_path / "20261121")  # a name that is no version


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
    assert lookup.run(out / path).name == name
    monkeypatch.setenv("HOME", str(out.parent))
    assert lookup.run(Path("~") / out.name / path).name == name


def test_of_an_output_folder_the_newest_run_that_fits_is_taken(out: Path):
    assert lookup.run(out, lambda run: run.page.is_file(), "has a report").name == LAST
    with pytest.raises(
        ResourceError, match=r"no run in .* has a page\. .* newest are: .*, 20260103"
    ):
        lookup.run(out, lambda run: False, "has a page")
    with pytest.raises(ResourceError, match="published version 7"):
        lookup.run(out / "model/7")


@pytest.mark.parametrize("path", ["runs/20260104-100000", "runs/20260105-100000", "modl"])
def test_a_misspelled_or_deleted_run_is_not_replaced_by_another(out: Path, path: str):
    (out / "runs/20260105-100000").mkdir()
    with pytest.raises(ResourceError, match=rf"no run in {out / path}\. Expected: .*imgpipe runs"):
        lookup.run(out / path)


@pytest.mark.parametrize(
    ("path", "received"),
    [("empty", "it holds nothing"), ("gone", "there is no such folder"), ("file", "a file")],
)
def test_what_is_at_a_path_without_runs_is_named(tmp_path: Path, path: str, received: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=rf"no run in .*Received: {received}"):
        lookup.output_folder(tmp_path / path)


def test_the_run_of_a_version_in_another_folder_is_found(out: Path):
    """Both folders have a version 1."""
    other = out / "staging"
    leave(out, "20260109-100000", version=1, settings=(f"push.directory={json.dumps(str(other))}",))
    assert lookup.run(out / "model/1").name == FIRST
    assert lookup.run(out / "staging/1").name == "20260109-100000"
