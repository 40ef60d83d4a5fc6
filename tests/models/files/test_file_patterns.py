"""Tests that a pattern applies to the last part of a path, and folders match literally."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from imgpipe.models.files.file_patterns import is_special, matching, plain_name


@pytest.mark.parametrize("name", ["plain", "out*", "out[1]", "what?", "[!a]*"])
def test_special_characters_in_the_name_of_a_folder_match_literally(tmp_path, name):
    for folder in (name, "out", "out1", "out2", "whatx", "b"):
        (tmp_path / folder).mkdir()
        for file in ("part-1", "part-2", "other"):
            (tmp_path / folder / file).touch()
    place = tmp_path / name
    assert matching(f"{place}/part-*") == [f"{place}/part-1", f"{place}/part-2"]
    assert matching(f"{place}/part-[!1]") == [f"{place}/part-2"]
    assert matching(f"{place}/none*") == [] == matching(f"{tmp_path}/gone*/part-*")


def test_special_characters_are_recognised():
    assert all(map(is_special, ("a*", "b?", "c[", "d[1]"))) and not is_special("/plain out/ü")


def test_a_folder_with_special_characters_gets_a_plain_name(tmp_path, monkeypatch):
    place = tmp_path / "out*"
    (place / "tmp").mkdir(parents=True)
    (place / "model").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    with plain_name(str(place / "model")) as name:
        assert not is_special(name) and Path(name).resolve() == place / "model"
    assert not Path(name).exists()
    with plain_name(str(tmp_path)) as name:
        assert name == str(tmp_path)
