"""What `imgpipe doctor` finds out about the machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from imgpipe.pipeline.doctor import machine


@pytest.mark.parametrize(
    ("megabytes", "fit", "fatal"), [(0, False, True), (1000, False, False), (9000, True, False)]
)
def test_a_full_disk_is_an_error_and_little_space_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, megabytes: int, fit: bool, fatal: bool
) -> None:
    usage = SimpleNamespace(free=megabytes * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    (disk,) = (check for check in machine.CHECKS if check.__name__ == "_disk")
    found = disk(tmp_path)
    assert (found.fit, found.fatal) == (fit, fatal)
    assert f"{megabytes * 10**6 / 2**30:.1f} GiB free" in found.detail
