"""Tests that damaged artifacts and versions are noticed, and are made again or not served."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.case import UNTRAINED, Case, newest_artifact

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run a case with an output folder that the tests may damage; return case and outcome."""
    mine = Case(case.photos, tmp_path_factory.mktemp("damage") / "out")
    return mine, mine.run()


def test_a_truncated_shard_of_examples_is_made_again(
    own: tuple[Case, Any], caplog: pytest.LogCaptureFixture
):
    mine, first = own
    examples = newest_artifact(mine.out, "ImageFilter", "examples")
    [shard] = (examples / "Split-validation").iterdir()
    whole = shard.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    shard.write_bytes(whole[: 12 + length + 4])  # only the first record is left
    outcome = mine.run(start="FeatureBank")
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.result["data"]["by_split"] == first.result["data"]["by_split"]
    assert outcome.accuracy == first.accuracy
    assert not examples.exists()
    assert f"{examples} is damaged: " in caplog.text
    assert "ImageFilter makes it again" in caplog.text


@pytest.mark.timeout(900)
def test_copies_that_a_later_run_has_emptied_are_made_again_where_they_are_needed(
    case: Case, tmp_path: Path
):
    mine = Case(case.photos, tmp_path / "out")
    first = mine.run()
    images = newest_artifact(mine.out, "ImageExampleGen", "examples")
    # Not blessed, or the first model would be compared with another version.
    outcome = mine.run("split.seed=3", "evaluate.threshold=1", *UNTRAINED)
    assert outcome.freed > 0 and not list(images.glob("Split-*")) and images.is_dir()
    again = mine.run()
    assert {"ImageExampleGen", "ImageFilter"} <= set(again.result["cached"])
    assert again.accuracy == first.accuracy
    stricter = mine.run("judge.min_side=17")  # ImageFilter reads the images again
    assert stricter.exit_code == 0, stricter.verdict
    assert not images.exists() and stricter.result["data"]["in"] == first.result["data"]["in"]


def test_a_run_with_damaged_metadata_sets_it_aside_and_keeps_the_versions(
    own: tuple[Case, Any], capsys: pytest.CaptureFixture[str]
):
    mine, first = own
    (mine.out / "metadata.sqlite").write_bytes(b"garbage" * 1000)
    base = mine.out / "model"
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*") if path.is_file()}
    outcome = mine.run("evaluate.threshold=0.49")  # or the outcome is repeated
    assert "It was renamed to metadata.damaged-" in capsys.readouterr().err
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.result["data"] == first.result["data"]
    assert outcome.result["bank"]["forward_passes"] == 0
    after = {path: path.stat().st_mtime_ns for path in base.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
