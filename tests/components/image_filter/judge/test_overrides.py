"""The file of overrides: what it may hold, what is refused, and how it is edited."""

from concurrent.futures import ThreadPoolExecutor

import filelock
import pytest

from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.checks import obstacle
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.settings.override import Override

A, B = "a" * 64, "b" * 64


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "overrides.toml"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def entry(image_hash=A, verdict="accept", **more):
    values = {"image_hash": image_hash, "verdict": verdict, **more}
    return "[[override]]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items())


def test_entries_are_read_in_order(file):
    found = overrides.load(
        file(entry(note="kept on purpose", path="cat/owl.jpg") + entry(B, "relabel", label="dög"))
    )
    assert found == (
        Override(A, "accept", path="cat/owl.jpg", note="kept on purpose"),
        Override(B, "relabel", "dög"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = [", "is not valid TOML"),
        ("[accept]\nx = 1", r"holds accept; expected only \[\[override\]\] tables"),
        ("[override]\nx = 1", "an override that is no table"),
        (entry("xyz"), "entry 1: image_hash: .* the SHA-256 .* Received: 'xyz'"),
        (entry(A[:63]), "64 hex digits"),
        (entry(verdict="keep"), "verdict: .*'accept', 'reject' or 'relabel'. Received: 'keep'"),
        (entry(verdict="relabel"), "relabel needs a label; other verdicts take no label"),
        (entry(label="dog"), "relabel needs a label; other verdicts take no label"),
        (entry(hash="1"), "entry 1: hash: Unexpected keyword argument"),
        (
            entry() + "[[override]]\nimage_hash = 3\n",
            "entry 2: image_hash: Input should be a valid string. Received: 3",
        ),
        ("override = [1]", "an override that is no table"),
    ],
)
def test_what_is_wrong_is_named(file, content, message):
    with pytest.raises(ConfigError, match=message):
        overrides.load(file(content))


def test_several_writers_lose_no_entry(tmp_path):
    path = tmp_path / "overrides.toml"
    hashes = [f"{number:064x}" for number in range(40)]

    def write(digest):
        overrides.replace_entries(path, {digest: Override(digest, "accept")})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, hashes))
    assert sorted(entry.image_hash for entry in overrides.load(path)) == hashes


def test_a_writer_that_does_not_finish_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(overrides, "_LOCK_SECONDS", 0.0)
    path = tmp_path / "overrides.toml"
    with (
        filelock.FileLock(tmp_path / ".overrides.toml.lock"),
        pytest.raises(ResourceError, match=r"overrides.toml: another process .* try again"),
    ):
        overrides.replace_entries(path, {A: Override(A, "accept")})


def test_decisions_for_a_class_that_is_gone_are_refused_with_what_to_do(tmp_path):
    file = tmp_path / "overrides.toml"
    gone = [Override(digit * 64, "relabel", "cats") for digit in "ac"]
    file.write_text(overrides.to_toml([*gone, Override(B, "reject")]), encoding="utf-8")
    said = "relabels 2 images to 'cats', which is not a class; .* cat, dog. If it is 'cat'"
    with pytest.raises(ConfigError, match=f"{said} now.* --set judge.overrides=FILE"):
        overrides.decisions(file, ["cat", "dog"])
    with pytest.raises(ConfigError, match=r"rock\. Otherwise remove these entries, or name"):
        overrides.decisions(file, ["rock"])


def test_of_several_entries_of_an_image_the_last_one_holds(file):
    decided = file(entry() + entry(B, "reject") + entry(verdict="relabel", label="dog"))
    found = {each.image_hash: each for each in overrides.decisions(decided, ["cat", "dog"])}
    assert (found[A].verdict, found[A].label_index, found[B].verdict) == ("relabel", 1, "reject")


def test_a_first_entry_is_appended_and_a_later_one_replaces_it(file):
    path = file("# Mine.\n" + entry(B, note="it's"))
    odd = Override(A, "relabel", 'a "b" \\ ü', path="x/\n.jpg", note="it's")
    assert overrides.replace_entries(path, {A: odd}) == {A: None}
    assert path.read_text().startswith("# Mine.\n[[override]]")
    assert overrides.load(path) == (Override(B, "accept", note="it's"), odd)
    assert overrides.replace_entries(path, {A: None}) == {A: odd}
    assert overrides.load(path) == (Override(B, "accept", note="it's"),)
    assert path.read_text().startswith("# Decisions about single images")


@pytest.mark.parametrize("reason", ["two_splits", "two_groups", "group_across_splits"])
def test_another_label_is_no_remedy_for_a_problem_of_splits_or_groups(reason):
    assert "correct the list" in obstacle(reason, "correct the list", relabel=True)
    assert obstacle("two_labels", "correct the list", relabel=True) == ""
