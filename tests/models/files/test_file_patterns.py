"""Patterns match in their last part; folders are taken by their names."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from imgpipe.models.files.file_patterns import is_special, matching, plain_name


@pytest.mark.parametrize("name", ["plain", "out*", "out[1]", "what?", "[!a]*"])
def test_a_folder_is_found_by_its_name_alone(tmp_path, name):
    for folder in (name, "out", "out1", "out2", "whatx", "b"):
        (tmp_path / folder).mkdir()
        for file in ("part-1", "part-2", "other"):
            (tmp_path / folder / file).touch()
    place = tmp_path / name
    assert matching(f"{place}/part-*") == [f"{place}/part-1", f"{place}/part-2"]
    assert matching(f"{place}/part-[!1]") == [f"{place}/part-2"]
    assert matching(f"{place}/none*") == [] == matching(f"{tmp_path}/gone*/part-*")


def test_special_characters_are_known():
    assert all(map(is_special, ("a*", "b?", "c[", "d[1]"))) and not is_special("/plain out/ü")


def test_a_special_folder_gets_a_plain_name_also_when_temporary_files_are_in_it(
    tmp_path, monkeypatch
):
    place = tmp_path / "out*"
    (place / "tmp").mkdir(parents=True)
    (place / "model").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    with plain_name(str(place / "model")) as name:
        assert not is_special(name) and Path(name).resolve() == place / "model"
    assert not Path(name).exists()
    with plain_name(str(tmp_path)) as name:
        assert name == str(tmp_path)
