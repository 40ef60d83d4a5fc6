"""Versions and manifests: a version is published whole or not at all, and numbers only grow."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.components.model_pusher import versions
from imgpipe.components.model_pusher.push import Candidate, push
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.described_files import version_damage
from imgpipe.models.files.regular_files import sha256
from imgpipe.pipeline.commands import rollback
from imgpipe.serving.server import storage
from tests import python_program
from tests.folder_renames import refused


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    """Return the folder of an export with a graph and variables."""
    folder = tmp_path / "export"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "assets").mkdir()
    (folder / "assets" / "vocabulary.txt").write_text("a\nb\n")
    (folder / "variables" / "variables.data").write_bytes(b"weights" * 1000)
    return folder


def test_a_published_version_is_described_file_by_file(tmp_path: Path, saved_model: Path):
    base = tmp_path / "model"
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
        ("README.md", False),
        ("fingerprint.pb", False),
    ],
)
def test_the_files_that_answer_or_compare_have_to_stay_as_they_were_published(
    tmp_path: Path, saved_model: Path, file: str, guarded: bool
):
    base = tmp_path / "model"
    (saved_model / file).parent.mkdir(parents=True, exist_ok=True)
    (saved_model / file).write_bytes(b"published")
    path = versions.publish(base, {"": saved_model}, {}).path
    (path / file).write_bytes(b"changed")
    assert bool(version_damage(path)) == bool(storage.look(path).missing) == guarded
    (path / file).unlink()
    assert bool(version_damage(path)) == bool(storage.look(path).missing) == guarded


def test_where_folders_cannot_be_renamed_a_server_waits_for_all_files_of_a_version(
    tmp_path: Path, saved_model: Path
):
    base = tmp_path / "model"
    (saved_model / "variables" / "variables.index").write_bytes(b"index")
    seen: list[tuple[bool, set[str]]] = []

    def look() -> None:
        if (found := storage.look(base / "1")) and found.fingerprint:
            seen.append((not found.missing, {name for name, _, _ in found.fingerprint}))

    with refused(each=look):
        version = versions.publish(base, {"": saved_model}, {"run_key": "k"}, texts={"N": "note"})
    files = set(version.manifest["files"])
    assert [files - names for complete, names in seen if complete] == [set()]
    assert not files <= seen[0][1], "the files appear one by one"
    assert version_damage(base / "1", "all") == ""
    assert sorted(path.name for path in base.iterdir()) == [".last-version", ".lock", "1"]


def test_where_folders_cannot_be_renamed_old_versions_are_removed(
    tmp_path: Path, saved_model: Path
):
    base = tmp_path / "model"
    with refused():
        numbers = [versions.publish(base, {"": saved_model}, {}, keep=2).number for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert manifest.version_numbers(base) == [2, 3]
    assert not list(base.glob(".tmp-*"))


def test_numbers_grow_after_versions_were_removed_and_other_folders_are_left_alone(
    tmp_path: Path, saved_model: Path
):
    base = tmp_path / "model"
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
def test_a_broken_manifest_is_no_version(tmp_path: Path, text: str):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / manifest.MANIFEST).write_text(text)
    assert manifest.latest(tmp_path) is None


GATES = {"model": True, "serving": True}


def test_a_version_with_flipped_bytes_is_not_whole_and_is_pushed_again(
    tmp_path: Path, saved_model: Path
):
    base = tmp_path / "model"
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


def test_a_model_is_published_above_a_damaged_higher_number(tmp_path: Path, saved_model: Path):
    """TensorFlow Serving serves the highest number, so the whole version must be above it."""
    base = tmp_path / "model"
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
def test_an_export_that_changed_after_validation_is_not_pushed(
    tmp_path: Path, saved_model: Path, name: str, content: bytes
):
    validated = manifest.describe(saved_model)
    (saved_model / name).write_bytes(content)
    with pytest.raises(ResourceError, match=f"^{name} in .* changed after the model was validated"):
        push(tmp_path / "model", Candidate(saved_model, validated=validated), GATES, 5)
    assert not (tmp_path / "model").exists()


def test_an_export_that_changes_while_it_is_copied_is_not_published(
    tmp_path: Path, saved_model: Path
):
    expected = manifest.describe(saved_model)
    (saved_model / "saved_model.pb").write_bytes(b"grapH")
    with pytest.raises(ResourceError, match=r"saved_model\.pb in .* Nothing was published"):
        versions.publish(tmp_path / "model", {"": saved_model}, {}, expected=expected)
    assert [path.name for path in (tmp_path / "model").iterdir()] == [".lock"]


def test_a_killed_publisher_leaves_no_incomplete_version(tmp_path: Path):
    """The publisher is killed at several moments, and the folder never shows a broken version."""
    export = tmp_path / "export"
    export.mkdir()
    for i in range(40):
        (export / f"file{i}").write_bytes(os.urandom(200_000))
    base = tmp_path / "model"
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from imgpipe.components.model_pusher import versions\n"
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
            there = manifest.describe(base / str(number))
            assert described["files"].items() <= there.items()
            assert described["files"].keys() == set(filter(manifest.is_guarded, there))
    number = versions.publish(base, {"": export}, {}).number
    assert manifest.latest(base).number == number
    assert not list(base.glob(".tmp-*"))


def test_publishing_without_permission_names_the_file_and_what_to_do(
    tmp_path: Path, saved_model: Path, monkeypatch
):
    base = tmp_path / "model"
    denied = PermissionError(errno.EACCES, "Permission denied", f"{base}/.lock")

    def acquire(*args, **kwargs):
        raise denied

    monkeypatch.setattr(versions.filelock.FileLock, "acquire", acquire)
    with pytest.raises(ResourceError, match="could not publish a version") as found:
        versions.publish(base, {"": saved_model}, {})
    assert f"Permission denied: '{base}/.lock'. Nothing was changed there" in str(found.value)


def test_publishing_on_a_full_disk_fails_with_a_message_and_changes_nothing(
    tmp_path: Path, saved_model: Path
):
    """A limit on the file size of the process stands in for a full disk: a write fails half-way."""
    base = tmp_path / "model"
    versions.publish(base, {"": saved_model}, {"run_key": "before"})
    (saved_model / "variables" / "variables.data").write_bytes(os.urandom(3_000_000))
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from imgpipe.components.model_pusher import versions\n"
        "from imgpipe.models.errors import ResourceError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "try: versions.publish(Path(sys.argv[1]), {'': Path(sys.argv[2])}, {})\n"
        "except ResourceError as error: print(error); sys.exit(error.exit_code)\n"
    )
    result = python_program.ended(program, base, saved_model)
    assert result.returncode == ResourceError.exit_code, result.stderr
    assert "could not publish a version" in result.stdout
    assert "free space" in result.stdout
    assert "Nothing was changed" in result.stdout
    assert manifest.version_numbers(base) == [1]
    assert manifest.latest(base).run_key == "before"
    assert not list(base.glob(".tmp-*"))


def test_concurrent_publishers_of_one_folder_lose_no_version(tmp_path: Path, saved_model: Path):
    """Two processes publish five times each, which gives ten whole versions."""
    base = tmp_path / "model"
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from imgpipe.components.model_pusher import versions\n"
        "for _ in range(5): versions.publish(Path(sys.argv[1]), {'': Path(sys.argv[2])}, {})\n"
    )
    command = [sys.executable, "-c", program, str(base), str(saved_model)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert manifest.version_numbers(base) == list(range(1, 11))
    assert len(list(manifest.versions(base))) == 10


def _publish(base: Path, graph: bytes, run_key: str) -> None:
    """Publish a version with this graph and otherwise the files of `saved_model`."""
    other = base.parent / "other"
    shutil.copytree(base.parent / "export", other)
    (other / "saved_model.pb").write_bytes(graph)
    versions.publish(base, {"": other}, {"run_key": run_key})
    shutil.rmtree(other)


class TestRollback:
    """A rollback publishes an earlier model under a new number and withdraws the later one."""

    @pytest.fixture
    def base(self, tmp_path: Path, saved_model: Path) -> Path:
        """Return a folder of versions after a rollback.

        Version 1 is of run "good", version 2 of run "bad" with another graph, and version 3 is
        version 1 again.
        """
        base = tmp_path / "model"
        versions.publish(base, {"": saved_model}, {"run_key": "good", "vocabulary": ["a", "b"]})
        (saved_model / "saved_model.pb").write_bytes(b"worse")
        versions.publish(base, {"": saved_model}, {"run_key": "bad"})
        rollback.rollback(base, None)
        return base

    def test_publishes_the_earlier_model(self, base: Path):
        newest = manifest.latest(base)
        assert newest.number == 3
        assert newest.run_key == "good"
        assert (newest.path / "saved_model.pb").read_bytes() == b"graph"
        assert newest.manifest["rolled_back_to"] == 1
        assert manifest.baseline_for(base, "bad").number == 3
        assert manifest.baseline_for(base, "good") is None, "version 2 was withdrawn"
        assert manifest.why_no_baseline(base).endswith("(a rollback has withdrawn others)")

    def test_a_withdrawn_model_stays_away_and_others_are_published(
        self, base: Path, saved_model: Path
    ):
        (base / "3" / "saved_model.pb").write_bytes(b"broken")
        withdrawn = Candidate(saved_model, {"run_key": "bad"})
        assert push(base, withdrawn, GATES, 5)["refused_by"] == ["rollback"]
        (saved_model / "saved_model.pb").write_bytes(b"better")
        assert push(base, Candidate(saved_model), GATES, 5)["status"] == "pushed"
        assert push(base, Candidate(saved_model), GATES, 5)["status"] == "unchanged"
        (saved_model / "saved_model.pb").write_bytes(b"worse")
        assert push(base, withdrawn, GATES, 5)["refused_by"] == ["rollback"]

    @pytest.fixture
    def before_the_lock(self, monkeypatch: pytest.MonkeyPatch):
        """Return a function that sets what another process does just before a publisher locks."""
        original = versions.exclusive

        def do(other: Callable[[], object]) -> None:
            @contextlib.contextmanager
            def exclusive(base: Path) -> Iterator[None]:
                monkeypatch.setattr(versions, "exclusive", original)
                other()
                with original(base):
                    yield

            monkeypatch.setattr(versions, "exclusive", exclusive)

        return do

    @pytest.mark.parametrize(("graph", "refused_by"), [(b"worst", ["rollback"]), (b"other", [])])
    def test_a_rollback_during_a_push_is_not_undone(
        self, base: Path, saved_model: Path, before_the_lock, graph: bytes, refused_by: list[str]
    ):
        _publish(base, b"worst", "worst")
        before_the_lock(lambda: rollback.rollback(base, 1))
        (saved_model / "saved_model.pb").write_bytes(graph)
        outcome = push(base, Candidate(saved_model, {"run_key": "mine"}), GATES, 9)
        assert outcome["refused_by"] == refused_by
        assert manifest.latest(base).run_key == ("good" if refused_by else "mine")
        worst = next(version for version in manifest.versions(base) if version.run_key == "worst")
        assert worst.identity in manifest.withdrawn(base)

    @pytest.mark.parametrize(
        ("meanwhile", "status"),
        [
            (lambda base: rollback.rollback(base, 3), "refused"),
            (lambda base: _publish(base, b"theirs", "theirs"), "refused"),
            (lambda base: _publish(base, b"mine", "mine"), "unchanged"),
            (lambda base: None, "pushed"),
        ],
        ids=["a rollback", "another model", "the same model at the same time", "nothing"],
    )
    def test_a_model_is_published_only_if_the_version_it_was_compared_with_is_still_the_one(
        self, base: Path, saved_model: Path, before_the_lock, meanwhile, status: str
    ):
        _publish(base, b"compared", "another day")
        facts = {"run_key": "mine", "baseline_version": 4}
        (saved_model / "saved_model.pb").write_bytes(b"mine")
        before_the_lock(lambda: meanwhile(base))
        outcome = push(base, Candidate(saved_model, facts), GATES, 9)
        assert outcome["status"] == status
        assert outcome["refused_by"] == (["other_version"] if status == "refused" else [])
        now = {"run_key": "mine", "baseline_version": 5}  # as when it is run again
        again = push(base, Candidate(saved_model, now), GATES, 9)["status"]
        assert again == ("pushed" if status == "refused" else "unchanged")

    def test_of_two_first_runs_at_once_one_publishes(self, tmp_path: Path, saved_model: Path):
        base, first = tmp_path / "none yet", {"baseline_version": 0}
        for run_key, refused_by in (("a", []), ("b", ["other_version"])):
            (saved_model / "saved_model.pb").write_text(run_key)
            facts = first | {"run_key": run_key}
            outcome = push(base, Candidate(saved_model, facts), GATES, 9)
            assert outcome["refused_by"] == refused_by

    def test_a_push_during_a_rollback_is_withdrawn(
        self, base: Path, saved_model: Path, before_the_lock
    ):
        (saved_model / "saved_model.pb").write_bytes(b"other")
        before_the_lock(lambda: versions.publish(base, {"": saved_model}, {"run_key": "other"}))
        rollback.rollback(base, 1)
        assert manifest.latest(base).number == 5
        assert manifest.versions(base)
        other = next(version for version in manifest.versions(base) if version.number == 4)
        assert other.identity in manifest.withdrawn(base)

    def test_the_version_to_publish_may_be_named_by_its_folder(self, base: Path):
        with pytest.raises(ConfigError, match=r"2 is one model, and version 1 is another one"):
            rollback.rollback(base / "2", 1)
        rollback.rollback(base / "2", None)
        newest = manifest.latest(base)
        assert (newest.path / "saved_model.pb").read_bytes() == b"worse"
        assert newest.manifest["rolled_back_to"] == 2

    def test_a_rollback_to_a_version_that_cannot_be_is_refused(
        self, base: Path, tmp_path: Path, saved_model: Path
    ):
        (base / "1" / "saved_model.pb").write_bytes(b"grapH")
        with pytest.raises(ResourceError, match=r"1 is damaged: saved_model\.pb has changed"):
            rollback.rollback(base, 1)
        base = tmp_path / "other"
        versions.publish(base, {"": saved_model}, {})
        with pytest.raises(ConfigError, match="there is no earlier model"):
            rollback.rollback(base, None)
        with pytest.raises(ConfigError, match=r"has no version 9\. Versions: 1\."):
            rollback.rollback(base, 9)

    @pytest.mark.parametrize(("intact", "to"), [(1, None), (1, 1), (2, None)])
    def test_a_damaged_newest_version_is_replaced_and_its_model_withdrawn(
        self, tmp_path: Path, saved_model: Path, intact: int, to: int | None
    ):
        base = tmp_path / "other"
        for number in range(1, intact + 2):
            (saved_model / "saved_model.pb").write_bytes(b"graph %d" % number)
            versions.publish(base, {"": saved_model}, {})
        (base / str(intact + 1) / "saved_model.pb").write_bytes(b"broken!")
        rollback.rollback(base, to)
        newest = manifest.latest(base)
        assert newest.manifest["rolled_back_to"] == intact
        assert len(newest.withdrawn) == 1
        assert push(base, Candidate(saved_model), GATES, 5)["refused_by"] == ["rollback"]
