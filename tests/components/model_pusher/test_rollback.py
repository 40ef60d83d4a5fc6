"""A rollback publishes an earlier model under a new number and withdraws the later one."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.components.model_pusher import versions
from imgpipe.components.model_pusher.versions import Candidate, push
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.commands import rollback
from tests.components.model_pusher.conftest import GATES


def _publish(base: Path, graph: bytes, run_key: str) -> None:
    other = base.parent / "other"
    shutil.copytree(base.parent / "export", other)
    (other / "saved_model.pb").write_bytes(graph)
    versions.publish(base, {"": other}, {"run_key": run_key})
    shutil.rmtree(other)


@pytest.fixture
def base(tmp_path: Path, saved_model: Path) -> Path:
    """Return versions of run "good", of run "bad" with another graph, and the first one again."""
    base = tmp_path / "model"
    versions.publish(base, {"": saved_model}, {"run_key": "good", "vocabulary": ["a", "b"]})
    (saved_model / "saved_model.pb").write_bytes(b"worse")
    versions.publish(base, {"": saved_model}, {"run_key": "bad"})
    rollback.rollback(base.parent, None)
    return base


def test_a_rollback_publishes_the_earlier_model(base):
    newest = manifest.latest(base)
    assert newest.number == 3
    assert newest.run_key == "good"
    assert (newest.folder / "saved_model.pb").read_bytes() == b"graph"
    assert newest.manifest["rolled_back_to"] == 1
    assert manifest.baseline_for(base, "bad").number == 3
    assert manifest.baseline_for(base, "good") is None, "version 2 was withdrawn"
    assert manifest.why_no_baseline(base).endswith("(a rollback has withdrawn others)")


def test_a_withdrawn_model_stays_away_and_others_are_published(base, saved_model):
    (base / "3" / "saved_model.pb").write_bytes(b"broken")
    withdrawn = Candidate(saved_model, {"run_key": "bad"})
    assert push(base, withdrawn, GATES, 5)["refused_by"] == ["rollback"]
    (saved_model / "saved_model.pb").write_bytes(b"better")
    assert push(base, Candidate(saved_model), GATES, 5)["status"] == "pushed"
    assert push(base, Candidate(saved_model), GATES, 5)["status"] == "unchanged"
    (saved_model / "saved_model.pb").write_bytes(b"worse")
    assert push(base, withdrawn, GATES, 5)["refused_by"] == ["rollback"]


@pytest.fixture
def before_the_lock(monkeypatch: pytest.MonkeyPatch):
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
def test_a_rollback_during_a_push_is_kept(base, saved_model, before_the_lock, graph, refused_by):
    _publish(base, b"worst", "worst")
    before_the_lock(lambda: rollback.rollback(base.parent, 1))
    (saved_model / "saved_model.pb").write_bytes(graph)
    outcome = push(base, Candidate(saved_model, {"run_key": "mine"}), GATES, 9)
    assert outcome["refused_by"] == refused_by
    assert manifest.latest(base).run_key == ("good" if refused_by else "mine")
    worst = next(version for version in manifest.versions(base) if version.run_key == "worst")
    assert worst.identity in manifest.withdrawn(base)


@pytest.mark.parametrize(
    ("meanwhile", "status"),
    [
        (lambda base: rollback.rollback(base.parent, 3), "refused"),
        (lambda base: _publish(base, b"theirs", "theirs"), "refused"),
        (lambda base: _publish(base, b"mine", "mine"), "unchanged"),
        (lambda base: None, "pushed"),
    ],
    ids=["a rollback", "another model", "the same model at the same time", "nothing"],
)
def test_a_model_is_published_only_beside_what_it_was_compared_with(
    base, saved_model, before_the_lock, meanwhile, status
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


def test_of_two_first_runs_at_once_one_publishes(tmp_path, saved_model):
    base, first = tmp_path / "none yet", {"baseline_version": 0}
    for run_key, refused_by in (("a", []), ("b", ["other_version"])):
        (saved_model / "saved_model.pb").write_text(run_key)
        facts = first | {"run_key": run_key}
        outcome = push(base, Candidate(saved_model, facts), GATES, 9)
        assert outcome["refused_by"] == refused_by


def test_a_push_during_a_rollback_is_withdrawn(base, saved_model, before_the_lock):
    (saved_model / "saved_model.pb").write_bytes(b"other")
    before_the_lock(lambda: versions.publish(base, {"": saved_model}, {"run_key": "other"}))
    rollback.rollback(base.parent, 1)
    assert manifest.latest(base).number == 5
    assert manifest.versions(base)
    other = next(version for version in manifest.versions(base) if version.number == 4)
    assert other.identity in manifest.withdrawn(base)


def test_the_version_to_publish_may_be_named_by_its_folder(base):
    with pytest.raises(ConfigError, match=r"2 is one model, and version 1 is another one"):
        rollback.rollback(base / "2", 1)
    rollback.rollback(base / "2", None)
    newest = manifest.latest(base)
    assert (newest.folder / "saved_model.pb").read_bytes() == b"worse"
    assert newest.manifest["rolled_back_to"] == 2


def test_a_rollback_to_a_version_that_cannot_be_is_refused(base, tmp_path, saved_model):
    (base / "1" / "saved_model.pb").write_bytes(b"grapH")
    with pytest.raises(ResourceError, match=r"1 is not intact .*: saved_model\.pb has changed"):
        rollback.rollback(base.parent, 1)
    base = tmp_path / "other" / "model"
    versions.publish(base, {"": saved_model}, {})
    with pytest.raises(ConfigError, match="there is no earlier model"):
        rollback.rollback(base.parent, None)
    with pytest.raises(ConfigError, match=r"has no version 9\. Versions: 1\."):
        rollback.rollback(base.parent, 9)


@pytest.mark.parametrize(("intact", "to"), [(1, None), (1, 1), (2, None)])
def test_a_damaged_newest_version_is_replaced_and_withdrawn(tmp_path, saved_model, intact, to):
    base = tmp_path / "other" / "model"
    for number in range(1, intact + 2):
        (saved_model / "saved_model.pb").write_bytes(b"graph %d" % number)
        versions.publish(base, {"": saved_model}, {})
    (base / str(intact + 1) / "saved_model.pb").write_bytes(b"broken!")
    rollback.rollback(base.parent, to)
    newest = manifest.latest(base)
    assert newest.manifest["rolled_back_to"] == intact
    assert len(newest.withdrawn) == 1
    assert push(base, Candidate(saved_model), GATES, 5)["refused_by"] == ["rollback"]
