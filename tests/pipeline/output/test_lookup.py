"""Tests of which run and which model a path means, and that all commands agree about it."""

import shutil
from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError, ImgpipeError, ResourceError
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.serving.server import settings as server_settings
from tests.command import ran
from tests.pipeline.past_runs import (
    FIRST,
    LAST,
    SECOND,
    leave,
    leave_three,
    publish_two,
    saved_model,
)

#: Every command that takes a model, with the path as its last argument.
COMMANDS = (
    ("predict", "photo.png", "--model"),
    ("evaluate", "--data", "photos", "--model"),
    ("explain", "photo.png", "--model"),
    ("serve",),
    ("drift", "log", "--model"),
    ("rollback",),
    ("export", "keras", "--to", "copy.keras"),
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder of three runs: versions 1 and 2, and one that was refused."""
    return leave_three(tmp_path / "20261121")  # a name that is no version


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", SECOND),
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
    assert lookup.run(out, lambda run: run.report, "has a report").name == LAST
    with pytest.raises(
        ResourceError, match=r"no run in .* has a page\. .* newest are: .*, 20260103"
    ):
        lookup.run(out, lambda run: False, "has a page")
    with pytest.raises(ResourceError, match="published version 7"):
        lookup.run(out / "model/7")


@pytest.mark.parametrize(
    "path", ["runs/20260104-100000", "runs/20260105-100000", "modl", "model", "runs"]
)
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
        OutputFolder.find(tmp_path / path)


@pytest.mark.parametrize(
    ("path", "number", "expected"),
    [
        ("", None, "2"),
        ("", 1, "1"),
        ("model/1", None, "1"),
        ("model/1", 1, "1"),
        ("model/../model/1", None, "1"),
        ("saved", None, "saved"),
        (f"runs/{FIRST}", None, "1"),
        (f"runs/{FIRST}", 1, "1"),
    ],
)
def test_a_model_is_found(out: Path, path: str, number: int | None, expected: str):
    saved_model(out / "saved")
    assert lookup.model(out / path, version=number).folder.name == expected


def test_versions_that_do_not_exist_are_refused(out: Path):
    with pytest.raises(ConfigError, match=r"has no version 7\. Versions: 1, 2\."):
        lookup.model(out, version=7)
    for path in ("model/1", f"runs/{FIRST}"):
        with pytest.raises(
            ConfigError, match=r"is one model, and version 2 is another .* or name the output"
        ):
            lookup.model(out / path, version=2)
    (out / "model/2/manifest.json").write_text("{")
    with pytest.raises(ResourceError, match=r"model/2 is not intact .* Run `imgpipe run`"):
        lookup.model(out, version=2)


def test_of_an_output_folder_the_newest_intact_version_is_meant(tmp_path: Path):
    out = publish_two(tmp_path)
    assert lookup.model(out).is_newest and not lookup.model(out / "model/2").is_newest
    (out / "model/2/saved_model.pb").write_text("x")
    assert lookup.model(out).version == 1
    with pytest.raises(ResourceError, match=r"model/2 .*: saved_model\.pb .* rollback \S*$"):
        lookup.model(out / "model/2")
    shutil.copytree(out / "model/1", out / "model/3")
    with pytest.raises(ResourceError, match=r"has 1 bytes.* Choose another version: 3, 1$"):
        lookup.model(out / "model/2")
    shutil.rmtree(out / "model/3")
    for number in (1, 2):
        (out / f"model/{number}/manifest.json").write_text("{")
    with pytest.raises(ResourceError, match=r"model/2 is not intact .* Run `imgpipe run`"):
        lookup.model(out)


def test_a_model_without_a_number_can_be_used_and_not_rolled_back(out: Path):
    model = lookup.model(saved_model(out / "saved"))
    assert model.version is None
    with pytest.raises(ResourceError, match=r"not named by a version\. .*Rename it: mv .*saved"):
        _ = model.versions


def test_the_model_of_a_run_that_did_not_publish_it_is_not_handed_on(out: Path):
    leave(out, "20260104-100000", status="not_blessed", correct=17)
    with pytest.raises(ResourceError, match="run 20260104-100000 is not published") as caught:
        lookup.model(out / "runs/20260104-100000", published=True)
    lines = str(caught.value).splitlines()
    assert "It ended: not_blessed: a sentence. Try this model" in lines[0]
    assert lines[1] == f"  imgpipe serve {out}/runs/20260104-100000"
    assert lines[3].startswith("  imgpipe run --config ")


def test_where_no_run_was_blessed_the_ways_on_are_named(tmp_path: Path):
    leave(tmp_path, FIRST, status="not_blessed", correct=17)
    leave(tmp_path, LAST, status="failed", correct=None)
    with pytest.raises(ResourceError, match="no model is published") as caught:
        lookup.model(tmp_path)
    told = str(caught.value)
    assert f"no model is published in {tmp_path}, although {tmp_path} has 2 runs" in told
    assert "The newest that evaluated one: not_blessed: a sentence." in told
    lines = told.splitlines()
    assert f"  imgpipe serve {tmp_path}/runs/{FIRST}" in lines
    config = tmp_path / "runs" / FIRST / "config.toml"
    assert f"  imgpipe run --config {config} --set evaluate.threshold=0.85" in lines


def test_where_no_run_has_evaluated_a_model_the_report_is_named(tmp_path: Path):
    leave(tmp_path, FIRST, status="refused", correct=None)
    with pytest.raises(
        ResourceError, match=r"The newest: refused: a sentence\. .*\n  imgpipe open"
    ):
        lookup.model(tmp_path)


def test_versions_that_no_run_published_have_nothing_to_compare_or_publish_again(tmp_path: Path):
    saved_model(tmp_path / "model/1")
    model = lookup.model(tmp_path)
    assert model.version == 1
    with pytest.raises(ResourceError, match=r"1 is not intact .*: manifest.json is missing"):
        _ = model.published


@pytest.mark.parametrize("name", ["model [1]", "model*", "what?", "back\\slash"])
def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused_also_by_a_server(
    tmp_path: Path, name: str
):
    version = saved_model(tmp_path / name / "1")
    words = r"expected a path without \*, \?, \[ and .*Received: .*Rename it: mv "
    for path in (version, version.parent):
        with pytest.raises(ConfigError, match=words):
            lookup.model(path)
    with pytest.raises(ConfigError, match=words):
        _ = server_settings.ServerSettings(model_base_path=str(version.parent)).base_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gone/", r"no model in gone\. .*Received: there is no such folder\. Run `imgpipe run`"),
        ("empty", r"no model in empty\. .*Received: it holds nothing\."),
        ("photos", r"no model in photos\. .*Received: it holds cat, dog\."),
        ("photo.png", r"no model in photo\.png\. .*Received: a file\."),
        ("20261121/model/9", r"20261121/model has no version 9\. Versions: 1, 2\."),
        ("20261121/runs/20260109-100000", r"no run in .*20260109-100000\. .*imgpipe runs"),
        ("other", r"other/model/1 has no assets/vocabulary\.txt\. .*of other programs"),
        ("other/model", r"no model in other/model\. .*Received: it holds 1\."),
        ("other/model/1", r"other/model/1 has no assets/vocabulary\.txt\."),
        ("refused", r"no model is published in refused, although .* has 1 run\."),
        ("[1]/model", r"expected a path without \*, \?, \[ and"),
    ],
)
def test_every_command_answers_the_same_to_a_wrong_path(
    out: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str
):
    monkeypatch.chdir(out.parent)
    for folder in ("empty", "photos/cat", "photos/dog", "other/model/1", "[1]/model"):
        Path(folder).mkdir(parents=True)
    for file in ("photo.png", "log"):
        Path(file).touch()
    Path("other/model/1/saved_model.pb").touch()
    leave(Path("refused"), FIRST, status="refused", correct=None)
    for command in COMMANDS:
        with pytest.raises(ImgpipeError, match=expected):
            ran(*command, path)
