"""Tests of `imgpipe compare` and `imgpipe open`, on runs with real files of predictions."""

import pytest

from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.commands import compare
from imgpipe.pipeline.commands import open as open_command
from tests import image_tables
from tests.command import answered, ran
from tests.pipeline.past_runs import CLASSES, FIRST, LAST, SECOND, leave, leave_quarantine


def predicted(folder, rows):
    """Write predictions of rows of hash, label and answer; return what a run records of them."""
    with records.ShardWriter({"all": records.shard_path(str(folder), "validation", 0, 1)}) as out:
        for key, label, answer in rows:
            values = {names.IMAGE_HASH: key, names.LABEL_INDEX: CLASSES.index(label)}
            probabilities = [0.6 if name == answer else 0.4 for name in CLASSES]
            out.write("all", records.make(values | {names.PROBABILITIES: probabilities}))
    images = [
        image_tables.row(f"{label}/{key}.jpg", label, CLASSES.index(label), names.VALIDATION, key)
        for key, label, _ in rows
    ]
    table = leave_quarantine(folder.with_name(f"images of {folder.name}"), images)
    return {"ImageEvaluator": {"predictions": str(folder)}, **table}


@pytest.fixture
def out(tmp_path):
    """Return a folder with runs that published versions 1 and 2, and a refused one between."""
    common = [(f"c{number}", "cat", "cat") for number in range(6)]
    a = predicted(
        tmp_path / "a", [*common, ("x", "cat", "dog"), ("y", "dog", "cat"), ("z", "dog", "dog")]
    )
    b = predicted(
        tmp_path / "b",
        [
            *common,
            ("x", "cat", "cat"),
            ("y", "dog", "dog"),
            ("z", "dog", "cat"),
            ("new", "dog", "dog"),
        ],
    )
    leave(tmp_path, FIRST, version=1, artifacts=a)
    leave(tmp_path, SECOND, status="refused", correct=None)
    leave(
        *(tmp_path, LAST),
        version=2,
        artifacts=b,
        correct=19,
        images=(44, 40),
        settings=("course.epochs=33",),
    )
    return tmp_path


def test_two_versions_are_compared_on_their_common_images(out):
    answer = answered("compare", out / "model/1", out / "model/2")
    assert set(answer) == {
        *("schema", "a", "b", "configuration", "data", "images", "choices", "metrics"),
        *("paired", "paired_missing", "only_a", "only_b"),
    }
    runs = out / "runs"
    assert [answer["a"], answer["b"]] == [str(runs / FIRST), str(runs / LAST)]
    assert answer["configuration"] == [{"name": "course.epochs", "before": 60, "after": 33}]
    assert {"name": "images of cat", "before": 40, "after": 44} in answer["data"]
    pair = answer["paired"]["validation"]
    assert (pair["images"], pair["both"], pair["only_a"], pair["only_b"]) == (9, 6, 1, 2)
    assert pair["difference"] == pytest.approx(1 / 9)
    assert [row["path"] for row in answer["only_a"]] == ["dog/z.jpg"]
    assert [row["path"] for row in answer["only_b"]] == ["cat/x.jpg", "dog/y.jpg"]


def test_the_newest_two_evaluated_runs_of_a_folder_are_compared(out):
    result = ran("compare", out)
    assert result.exit_code == 0, result.output
    for expected in (
        "course.epochs: 60 → 33",
        "images of cat: 40 → 44",
        "Of the 9 images of validation that both classified, A is right for 7 and B for 8: the "
        "difference may be chance (95 % interval of the difference -0.",
        "p = 1).",
        "Only A is right: 1 image",
        "dog/z.jpg: dog; B predicted cat (validation)",
    ):
        assert expected in result.stdout, result.stdout


def test_what_the_images_decided_in_another_way_is_named(tmp_path):
    leave(tmp_path, FIRST, chosen=("average", 224))
    leave(tmp_path, SECOND, chosen=("covariance", 288))
    result = ran("compare", tmp_path)
    assert "features of the head: average → covariance\n" in result.stdout
    assert "side of the images in pixels: 224 → 288\n" in result.stdout
    assert "trained:" not in result.stdout


def test_runs_without_predictions_are_compared_without_paired_accuracy(out):
    (out / "runs/20260101-100000/artifacts.json").unlink()
    result = ran("compare", out)
    assert "course.epochs: 60 → 33" in result.stdout
    assert "cannot be compared: run 20260101-100000 has no predictions: it" in result.stdout


def test_a_run_without_an_earlier_one_is_not_compared(tmp_path):
    leave(tmp_path, FIRST)
    with pytest.raises(ResourceError, match=r"a model before 20260101-100000\. Run again"):
        compare.command(tmp_path, None, None)


def test_open_shows_the_report_in_the_browser(out, monkeypatch):
    seen = out / "seen"
    browser = out / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setattr("webbrowser._tryorder", None)
    monkeypatch.setenv("BROWSER", str(browser))
    result = ran("open", out / "model/1")
    page = out / "runs/20260101-100000/report.html"
    assert result.stdout == f"{page}\n"
    assert seen.read_text().strip() == page.as_uri()


def test_open_prints_the_path_without_a_display(out, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    result = ran("open", out)
    assert str(out / "runs/20260103-100000/report.html") in result.stdout
    assert "No browser was found here" in result.stdout
    (out / "runs/20260102-100000/report.html").unlink()
    with pytest.raises(ResourceError, match="run 20260102-100000 has no report"):
        open_command.command(out / "runs/20260102-100000")
