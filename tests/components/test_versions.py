"""Versions and manifests: whole or not at all, numbers that only grow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components import manifest, versions
from models.errors import ResourceError


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.data").write_bytes(b"weights" * 1000)
    return folder


def test_a_published_version_is_described_file_by_file(tmp_path: Path, saved_model: Path):
    base = tmp_path / "model"
    version = versions.publish(base, {"": saved_model}, {"run_key": "k", "vocabulary": ["a"]})
    assert version.number == 1
    found = manifest.latest(base)
    assert found is not None
    assert found.run_key == "k"
    assert found.manifest["files"]["saved_model.pb"]["bytes"] == 5
    assert found.manifest["files"]["saved_model.pb"]["sha256"] == manifest.sha256(
        base / "1" / "saved_model.pb"
    )
    assert sorted(path.name for path in base.iterdir()) == [".last-version", "1"]


def test_numbers_grow_also_over_removed_versions(tmp_path: Path, saved_model: Path):
    base = tmp_path / "model"
    numbers = [versions.publish(base, {"": saved_model}, {}).number for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert versions.remove_old(base, keep=1) == [1, 2]
    (base / "3").rename(tmp_path / "away")
    assert versions.publish(base, {"": saved_model}, {}).number == 4


def test_a_version_that_lacks_a_file_is_not_whole(tmp_path: Path, saved_model: Path):
    base = tmp_path / "model"
    versions.publish(base, {"": saved_model}, {"run_key": "one"})
    versions.publish(base, {"": saved_model}, {"run_key": "two"})
    (base / "2" / "saved_model.pb").unlink()
    assert manifest.latest(base).number == 1
    (base / "1" / "saved_model.pb").write_bytes(b"other size")
    assert manifest.latest(base) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 3}', '{"files": {"a": 1}}'])
def test_a_broken_manifest_is_no_version(tmp_path: Path, text: str):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / manifest.MANIFEST).write_text(text)
    assert manifest.latest(tmp_path) is None


def test_the_baseline_of_a_repeated_run_is_not_itself(tmp_path: Path, saved_model: Path):
    base = tmp_path / "model"
    for key in ("old", "new", "new"):
        versions.publish(base, {"": saved_model}, {"run_key": key})
    assert manifest.baseline_for(base, "new").number == 1
    assert manifest.baseline_for(base, "other").number == 3
    assert manifest.baseline_for(base, "old").number == 3


def test_what_a_killed_publisher_left_is_removed(tmp_path: Path, saved_model: Path):
    base = tmp_path / "model"
    (base / ".tmp-dead" / "variables").mkdir(parents=True)
    versions.publish(base, {"": saved_model}, {})
    assert not (base / ".tmp-dead").exists()


def test_kill_while_publishing_leaves_no_half_version(tmp_path: Path):
    """Killed at many moments of a publication, the base path never shows a broken version."""
    export = tmp_path / "export"
    export.mkdir()
    for i in range(40):
        (export / f"file{i}").write_bytes(os.urandom(200_000))
    base = tmp_path / "model"
    program = (
        "import sys\nfrom pathlib import Path\nfrom components import versions\n"
        "print('go', flush=True)\n"
        "while True: versions.publish(Path(sys.argv[1]), {'': Path(sys.argv[2])}, {})\n"
    )
    for delay in (0.0, 0.02, 0.05, 0.11, 0.3, 1.0):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(base), str(export)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        process.stdout.close()
        for number in manifest.version_numbers(base):
            described = json.loads((base / str(number) / manifest.MANIFEST).read_text())
            assert described["files"] == manifest.describe(base / str(number))
    number = versions.publish(base, {"": export}, {}).number
    assert manifest.latest(base).number == number
    assert not list(base.glob(".tmp-*"))


def test_a_full_disk_changes_nothing_and_says_so(tmp_path: Path, saved_model: Path):
    """The file size limit of the process stands in for the disk's: a write fails half-way."""
    base = tmp_path / "model"
    versions.publish(base, {"": saved_model}, {"run_key": "before"})
    (saved_model / "variables" / "variables.data").write_bytes(os.urandom(3_000_000))
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from components import versions\nfrom models.errors import ResourceError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "try: versions.publish(Path(sys.argv[1]), {'': Path(sys.argv[2])}, {})\n"
        "except ResourceError as error: print(error); sys.exit(error.exit_code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(base), str(saved_model)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == ResourceError.exit_code, result.stderr
    assert "could not publish a version" in result.stdout
    assert "Nothing was changed" in result.stdout
    assert manifest.version_numbers(base) == [1]
    assert manifest.latest(base).run_key == "before"
    assert not list(base.glob(".tmp-*"))


def test_rollback_publishes_earlier_content_under_a_new_number(tmp_path: Path, saved_model: Path):
    from pipeline.commands import rollback

    base = tmp_path / "model"
    versions.publish(base, {"": saved_model}, {"run_key": "good", "vocabulary": ["a", "b"]})
    (saved_model / "saved_model.pb").write_bytes(b"worse")
    versions.publish(base, {"": saved_model}, {"run_key": "bad"})
    assert rollback.run(base, None) == 0
    newest = manifest.latest(base)
    assert newest.number == 3
    assert newest.run_key == "good"
    assert (newest.path / "saved_model.pb").read_bytes() == b"graph"
    assert newest.manifest["rolled_back_to"] == 1
    assert manifest.baseline_for(base, "bad").number == 3, "the baseline follows"
