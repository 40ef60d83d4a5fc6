"""Tests that nothing broken is published where files of an output folder are damaged."""

from typing import Any

import pytest

from imgpipe.components.common.storage import manifest
from tests.e2e.case import Case, newest_artifact

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Run a case with an output folder that the tests may damage; return case and outcome."""
    mine = Case(case.photos, tmp_path_factory.mktemp("damage") / "out")
    return mine, mine.run()


@pytest.mark.parametrize("damage", ["flipped", "cut off", "first record only"])
def test_a_damaged_shard_of_examples_ends_the_run_until_it_is_made_again(
    own: tuple[Case, Any], damage: str
):
    mine, first = own
    examples = newest_artifact(mine.out, "ImageFilter", "examples")
    [shard] = (examples / "Split-train").iterdir()
    whole = shard.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    damaged = {
        "flipped": whole[:100] + bytes([whole[100] ^ 255]) + whole[101:],
        "cut off": whole[: len(whole) // 2],
        "first record only": whole[: 12 + length + 4],
    }
    shard.write_bytes(damaged[damage])
    outcome = mine.run(start="FeatureBank")
    assert outcome.exit_code in (1, 5), outcome.verdict
    assert damage != "first record only" or f"{examples} is damaged: of " in outcome.verdict
    assert manifest.version_numbers(mine.out / "model") == [1]
    again = mine.run(start="ImageFilter")
    assert again.exit_code == 0, again.verdict
    assert again.result["data"]["by_split"] == first.result["data"]["by_split"]
    assert again.accuracy == first.accuracy


def test_a_run_without_its_metadata_database_uses_what_is_stored(own: tuple[Case, Any]):
    mine, first = own
    database = mine.out / "metadata.sqlite"
    database.write_bytes(b"garbage" * 1000)
    outcome = mine.run("evaluate.threshold=0.49")  # or the outcome is repeated
    assert outcome.exit_code == 5
    assert f"{database} cannot be used: another program uses it" in outcome.verdict
    database.unlink()
    base = mine.out / "model"
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*") if path.is_file()}
    outcome = mine.run("evaluate.threshold=0.49")
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.result["data"] == first.result["data"]
    assert outcome.result["cached"] == [] and outcome.result["bank"]["forward_passes"] == 0
    after = {path: path.stat().st_mtime_ns for path in base.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
