"""Versions on local storage: their names, completeness and manifests."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from imgpipe.serving.server import storage
from imgpipe.serving.server.status import StatusError


def write(root: Path, *names: str) -> None:
    """Write files below `root` whose content is their own name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def write_manifest(root: Path, **changes) -> None:
    """Write a manifest of the files below `root`, with the given entries replaced."""
    files = {
        file.relative_to(root).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "bytes": file.stat().st_size,
        }
        for file in root.rglob("*")
        if file.is_file()
    }
    (root / "manifest.json").write_text(json.dumps({"schema": 1, "files": files | changes}))


def list_versions(base: Path) -> dict[int, storage.Files]:
    """Return the files of the versions of a base path by their number."""
    return {number: storage.look(path) for number, path in storage.versions(base).items()}


WHOLE = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")


def test_a_folder_without_a_model_is_not_walked(tmp_path):
    """The classes of a data set may be named by digits, and hold a million images."""
    write(tmp_path / "1", "cats/1.jpg", "variables/variables.index")
    files = storage.look(tmp_path / "1")
    assert files.missing == "saved_model.pb is not there"
    assert len(files.fingerprint) == 1
    write(tmp_path / "1", "2.jpg")
    assert storage.look(tmp_path / "1") != files, "a folder that changes is looked at again"


def test_only_folders_named_by_an_integer_are_versions(tmp_path):
    names = ["1", "007", "-3", "1.tmp", ".tmp-8", "tmp_9", "2x", "", "9" * 19, "9" * 30, "٣", "1٣"]
    for name in names:
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "5").write_text("a file")
    (tmp_path / "link").symlink_to(tmp_path / "1")
    assert set(list_versions(tmp_path)) == {1, 7, -3}


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (WHOLE, ""),
        (("saved_model.pb",), ""),
        (("saved_model.pbtxt",), ""),
        ((), "saved_model.pb is not there"),
        (WHOLE[1:], "saved_model.pb is not there"),
    ],
)
def test_completeness_without_a_manifest(tmp_path, names, missing):
    (tmp_path / "1").mkdir()
    write(tmp_path / "1", *names)
    found = list_versions(tmp_path)[1].missing
    assert missing in found and bool(missing) == bool(found)


def test_completeness_by_manifest(tmp_path):
    root = tmp_path / "1"
    write(root, *WHOLE)
    write_manifest(root)
    assert list_versions(tmp_path)[1].missing == ""
    (root / WHOLE[2]).write_bytes(b"half")
    assert "has 4 bytes, expected" in list_versions(tmp_path)[1].missing
    (root / WHOLE[2]).unlink()
    assert list_versions(tmp_path)[1].missing == f"{WHOLE[2]} is missing"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"files": {"a": 1}}', '{"files": {"a": {"bytes": 1}}}', "\xff"),
        '{"files": {"../../etc/passwd": {"sha256": "", "bytes": 1}}}',
    ],
)
def test_a_version_with_an_invalid_manifest_is_not_loaded(tmp_path, text):
    write(tmp_path / "1", *WHOLE)
    (tmp_path / "1" / "manifest.json").write_bytes(text.encode("latin-1"))
    words = "cannot be compared|leads out of the folder"
    assert re.search(words, list_versions(tmp_path)[1].missing)


@pytest.mark.parametrize("name", ["manifest.json", "fingerprint.pb", "assets/a"])
def test_a_version_with_a_named_pipe_is_not_loaded(tmp_path, name):
    """To read it would take for ever, and no version of the model would be loaded any more."""
    write(tmp_path / "1", *WHOLE)
    (tmp_path / "1" / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "1" / name)
    assert list_versions(tmp_path)[1].missing == f"{name} is not a file"
    if name == "manifest.json":
        with pytest.raises(StatusError, match="is not a regular file"):
            storage.verify(tmp_path / "1")
