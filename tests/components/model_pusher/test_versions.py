"""Versions and manifests: a version is published whole or not at all, and numbers only grow."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.components.model_pusher import versions
from imgpipe.components.model_pusher.versions import Candidate, push
from imgpipe.models.errors import ResourceError
from imgpipe.models.files.described_files import version_damage
from imgpipe.models.files.regular_files import sha256
from imgpipe.serving.server import storage
from tests.components.model_pusher.conftest import GATES
from tests.folder_renames import refused
from tests.run_results import decided_by, decision

_PUBLISHER = """
import sys
from pathlib import Path
from imgpipe.components.model_pusher import versions

base, export, times = sys.argv[1:]
print("go", flush=True)
for _ in range(int(times)):
    versions.publish(Path(base), {"": Path(export)}, {})
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "model"


def test_a_published_version_is_described_file_by_file(base, saved_model):
    (saved_model / "saved_model.pb").chmod(0o666)  # as Kubeflow's launcher leaves its files
    version = versions.publish(base, {"": saved_model}, {"run_key": "k", "vocabulary": ["a"]})
    assert version.number == 1
    assert not (base / "1" / "saved_model.pb").stat().st_mode & 0o022
    found = manifest.latest(base)
    assert (found.number, found.run_key) == (1, "k")
    assert manifest.baseline_for(base, "k") is None, "a version of the same run"
    assert manifest.baseline_for(base, "other").number == 1
    assert found.manifest["files"]["saved_model.pb"]["bytes"] == 5
    assert found.manifest["files"]["saved_model.pb"]["sha256"] == sha256(
        base / "1" / "saved_model.pb"
    )
    assert sorted(path.name for path in base.iterdir()) == [".last-version", ".lock", "1"]


def test_the_manifest_has_facts_and_figures_that_are_not_part_of_the_identity(base, saved_model):
    decided = decision(decided_by(57, 60, "validation"))
    candidate = Candidate(saved_model, {"backbone": "conv_4"}, decision=decided)
    assert push(base, candidate, GATES, 9)["status"] == "pushed"
    version = manifest.latest(base)
    assert version.manifest["backbone"] == "conv_4"
    assert version.manifest["figures"] == decided["figures"]
    other = replace(candidate, decision=decided | {"figures": "accuracy 0.5"})
    assert push(base, other, GATES, 9)["status"] == "unchanged"
    assert version.identity == manifest.identity(manifest.describe(saved_model))


@pytest.mark.parametrize(
    ("file", "guarded"),
    [
        ("saved_model.pb", True),
        ("variables/variables.data", True),
        ("assets/vocabulary.txt", True),
        ("assets.extra/model_digest.json", True),
        ("assets.extra/network/network.json", True),
        ("assets.extra/tf_serving_warmup_requests", False),
        ("assets.extra/out_of_fold.npz", True),
        ("assets.extra/feature_distribution.npz", True),
        ("provenance/images.txt", False),
        ("fingerprint.pb", False),
    ],
)
def test_the_files_that_answer_or_compare_have_to_stay_as_published(
    base, saved_model, file, guarded
):
    (saved_model / file).parent.mkdir(parents=True, exist_ok=True)
    (saved_model / file).write_bytes(b"published")
    path = versions.publish(base, {"": saved_model}, {}).folder
    (path / file).write_bytes(b"changed")
    assert bool(version_damage(path)) == bool(storage.look(path).missing) == guarded
    (path / file).unlink()
    assert bool(version_damage(path)) == bool(storage.look(path).missing) == guarded


def test_where_folders_cannot_be_renamed_a_server_waits_for_all_files(base, saved_model):
    (saved_model / "variables" / "variables.index").write_bytes(b"index")
    seen: list[tuple[bool, set[str]]] = []

    def look() -> None:
        if (found := storage.look(base / "1")) and found.fingerprint:
            seen.append((not found.missing, {name for name, _, _ in found.fingerprint}))

    with refused(each=look):
        version = versions.publish(base, {"": saved_model}, {"run_key": "k"}, texts={"N": "note"})
    files = set(version.manifest["files"])
    complete_looks = [names for complete, names in seen if complete]
    assert complete_looks and all(files <= names for names in complete_looks)
    assert not files <= seen[0][1], "the files appear one by one"
    assert version_damage(base / "1", "all") == ""
    assert sorted(path.name for path in base.iterdir()) == [".last-version", ".lock", "1"]


def test_where_folders_cannot_be_renamed_old_versions_are_removed(base, saved_model):
    with refused():
        numbers = [versions.publish(base, {"": saved_model}, {}, keep=2).number for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert manifest.version_numbers(base) == [2, 3]
    assert not list(base.glob(".tmp-*"))


def test_numbers_grow_after_removals_and_other_folders_are_left_alone(tmp_path, base, saved_model):
    (base / "007").mkdir(parents=True)
    (base / "notes").mkdir()
    (base / ".tmp-dead" / "variables").mkdir(parents=True)  # of a publisher that was killed
    numbers = [versions.publish(base, {"": saved_model}, {}).number for _ in range(3)]
    assert numbers == [1, 2, 3]
    versions.publish(base, {"": saved_model}, {}, keep=1)
    assert manifest.version_numbers(base) == [4]
    assert (base / "007").is_dir() and not (base / ".tmp-dead").exists()
    (base / "4").rename(tmp_path / "away")
    assert versions.publish(base, {"": saved_model}, {}).number == 5


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"files": 3}', '{"files": {"a": 1}}', "[" * 100_000),
        '{"files": {"manifest.json": {"bytes": 60}}, "withdrawn": []}',
        '{"files": {"/no/such/file": {"bytes": 1, "sha256": ""}}}',
        '{"files": {"../../dev/zero": {"bytes": 0, "sha256": ""}}}',
    ],
)
def test_a_broken_manifest_is_no_version(tmp_path, text):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / manifest.MANIFEST).write_text(text)
    assert manifest.latest(tmp_path) is None


def test_a_version_with_flipped_bytes_is_not_whole_and_is_pushed_again(base, saved_model):
    assert push(base, Candidate(saved_model), GATES, 5)["version"] == "1"
    assert push(base, Candidate(saved_model), GATES, 5)["status"] == "unchanged"
    damaged, listed = base / "1" / "variables" / "variables.data", base / "1" / manifest.MANIFEST
    damaged.write_bytes(b"Weights" * 1000)  # the same number of bytes
    assert manifest.latest(base) is None
    damage = "variables/variables.data has changed since it was written"
    assert version_damage(base / "1") == damage
    assert manifest.why_no_baseline(base) == (
        f"there is no earlier blessed model to compare with (version 1 is damaged: {damage})"
    )
    outcome = push(base, Candidate(saved_model), GATES, 5)
    assert (outcome["status"], outcome["version"]) == ("pushed", "2")
    assert manifest.latest(base).number == 2
    listed.write_text(listed.read_text())  # the manifest is now the newest file
    assert version_damage(base / "1") == ""
    assert "variables.data has changed" in version_damage(base / "1", "all")


def test_a_model_is_published_above_a_damaged_higher_number(base, saved_model):
    """TensorFlow Serving serves the highest number, so the whole version must be above it."""
    push(base, Candidate(saved_model), GATES, 5)
    original = (saved_model / "saved_model.pb").read_bytes()
    (saved_model / "saved_model.pb").write_bytes(b"other")
    push(base, Candidate(saved_model), GATES, 5)
    assert manifest.served(base).number == 2
    (base / "2" / "saved_model.pb").write_bytes(b"")
    assert manifest.served(base) is None, "so that no run repeats an outcome that named it"
    (saved_model / "saved_model.pb").write_bytes(original)
    assert push(base, Candidate(saved_model), GATES, 5)["version"] == "3"


@pytest.mark.parametrize(
    ("name", "content"),
    [("variables/variables.data", b"Weights" * 1000), ("variables/added", b""), ("x.pb", b"")],
)
def test_an_export_changed_after_validation_is_not_pushed(tmp_path, saved_model, name, content):
    validated = manifest.describe(saved_model)
    (saved_model / name).write_bytes(content)
    with pytest.raises(ResourceError, match=f"^{name} in .* changed after the model was validated"):
        push(tmp_path / "model", Candidate(saved_model, validated=validated), GATES, 5)
    assert not (tmp_path / "model").exists()


def test_an_export_that_changes_while_it_is_copied_is_not_published(tmp_path, saved_model):
    expected = manifest.describe(saved_model)
    (saved_model / "saved_model.pb").write_bytes(b"grapH")
    with pytest.raises(ResourceError, match=r"saved_model\.pb in .* Nothing was published"):
        versions.publish(tmp_path / "model", {"": saved_model}, {}, expected=expected)
    assert [path.name for path in (tmp_path / "model").iterdir()] == [".lock"]


def test_a_killed_publisher_leaves_no_incomplete_version(tmp_path, base):
    """The publisher is killed at several moments, and the folder never shows a broken version."""
    export = tmp_path / "export"
    export.mkdir()
    for i in range(40):
        (export / f"file{i}").write_bytes(os.urandom(200_000))
    for delay in (0.0, 0.02, 0.05, 0.11, 0.3, 1.0):
        process = subprocess.Popen(
            [sys.executable, "-c", _PUBLISHER, str(base), str(export), "1000"],
            stdout=subprocess.PIPE,
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
            there = manifest.describe(base / str(number))
            assert described["files"].items() <= there.items()
            assert described["files"].keys() == set(filter(manifest.is_guarded, there))
    number = versions.publish(base, {"": export}, {}).number
    assert manifest.latest(base).number == number
    assert not list(base.glob(".tmp-*"))


def test_publishing_without_permission_names_file_and_remedy(base, saved_model, monkeypatch):
    denied = PermissionError(errno.EACCES, "Permission denied", f"{base}/.lock")

    def acquire(*args, **kwargs):
        raise denied

    monkeypatch.setattr(versions.filelock.FileLock, "acquire", acquire)
    with pytest.raises(ResourceError, match="could not publish a version") as found:
        versions.publish(base, {"": saved_model}, {})
    said = f"Permission denied: '{base}/.lock'. Nothing was changed there; free space"
    assert said in str(found.value)


def test_concurrent_publishers_of_one_folder_lose_no_version(base, saved_model):
    """Two processes publish five times each, which gives ten whole versions."""
    command = [sys.executable, "-c", _PUBLISHER, str(base), str(saved_model), "5"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert manifest.version_numbers(base) == list(range(1, 11))
    assert len(list(manifest.versions(base))) == 10
