"""The disk is full, fails or loses power at every write.

A reader must never see a partly written file, version or store. The test runs this file
as a program, with the library of `failing_disk.c` in LD_PRELOAD, for each of the scenarios: every
write is made to fail once with each error. After each failure, what a reader sees is compared with
what it is allowed to see. Then the calls are replayed as a disk would keep them at a power loss,
where only what was forced to disk survives.
"""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from imgpipe.components.common.storage import manifest
from imgpipe.components.common.storage.blob_store import BlobStore
from imgpipe.components.model_pusher import versions
from imgpipe.models.errors import ImgpipeError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.files.described_files import version_damage
from tests import python_program

ERRORS = (errno.ENOSPC, errno.EIO, errno.ENOMEM)
_MOST_CALLS = 400  # of one scenario; this limits how long the trial takes
_disk = ctypes.CDLL(None)


@dataclass(frozen=True)
class Scenario:
    """An operation that writes files.

    Attributes:
        prepare: creates the state before the operation.
        act: performs the operation; may raise.
        check: asserts what a reader may see afterwards; it is told whether `act` raised.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path], object]
    check: Callable[[Path, bool], None]


def _file_before(folder: Path) -> None:
    (folder / "file").write_bytes(b"before" * 1000)


def _file_after(folder: Path, failed: bool) -> None:
    """Check that the file has its old or its new content, and no other file is left."""
    after = (folder / "file").read_bytes()
    assert after in ((b"before" * 1000, b"after" * 1000) if failed else (b"after" * 1000,))
    assert [path.name for path in folder.iterdir()] == ["file"]


def _export(folder: Path) -> Path:
    """Write a model to publish beside the folder."""
    export = folder.parent / "export"
    shutil.rmtree(export, ignore_errors=True)
    (export / "variables").mkdir(parents=True)
    (export / "saved_model.pb").write_bytes(b"graph" * 1000)
    (export / "variables" / "variables.data").write_bytes(b"weights" * 1000)
    return export


def _publish(folder: Path) -> object:
    return versions.publish(folder / "model", {"": folder.parent / "export"}, {})


def _version_before(folder: Path) -> None:
    _export(folder)
    _publish(folder)


def _version_after(folder: Path, failed: bool) -> None:
    """Check that all versions are complete and that publishing works again."""
    base = folder / "model"
    numbers = manifest.version_numbers(base)
    assert numbers == ([1] if failed else [1, 2])
    assert all(version_damage(base / str(number), "all") == "" for number in numbers)
    assert not list(base.glob(".tmp-*"))
    again = versions.publish(base, {"": folder.parent / "export"}, {})
    assert again is not None and manifest.latest(base) == again


def _keys(marker: bytes) -> dict[bytes, bytes]:
    return {marker + bytes([number]) * 31: marker * 500 for number in range(40)}


def _put(folder: Path, marker: bytes) -> None:
    BlobStore(folder / "bank", "features").put(_keys(marker))


def _stored(folder: Path, failed: bool) -> None:
    """Check that the old values are there, and the new ones whole or (after a failure) absent."""
    store = BlobStore(folder / "bank", "features")
    old, new = _keys(b"a"), _keys(b"b")
    assert store.get(list(old)) == old
    found = store.get(list(new))
    assert found == new or (failed and found.items() <= new.items())


SCENARIOS = {
    "atomic_write": Scenario(
        _file_before, lambda folder: atomic_write(folder / "file", b"after" * 1000), _file_after
    ),
    "publish": Scenario(_version_before, _publish, _version_after),
    "store": Scenario(lambda f: _put(f, b"a"), lambda f: _put(f, b"b"), _stored),
}


def _attempt(scenario: Scenario, folder: Path, call: int, number: int, sticky: bool) -> bool:
    """Run a scenario in which call number `call` fails; return whether there was such a call."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    scenario.prepare(folder)
    failure = ""
    _disk.failing_arm(os.fsencode(folder), ctypes.c_long(call), number, int(sticky))
    try:
        scenario.act(folder)
    except (OSError, ImgpipeError) as error:
        failure = str(error)
    fired = bool(_disk.failing_disarm())
    assert fired or not failure, f"failed by itself: {failure}"
    scenario.check(folder, bool(failure))
    return fired


def _power_loss(scenario: Scenario, folder: Path) -> int:
    """Replay the calls of a scenario and return how many there were.

    At each rename nothing below the source may be in memory only, because the new name could
    survive without the content. At the end nothing at all may be in memory only.
    """
    _attempt(scenario, folder, 0, 0, False)
    shutil.rmtree(folder)
    folder.mkdir()
    scenario.prepare(folder)
    _disk.failing_log.restype = ctypes.c_char_p
    _disk.failing_arm(os.fsencode(folder), ctypes.c_long(0), 0, 0)
    scenario.act(folder)
    lines = os.fsdecode(_disk.failing_log()).splitlines()
    _disk.failing_disarm()
    volatile: set[Path] = set()
    for line in lines:
        call, first, second = line.split("\t")
        path = Path(first)
        if call in ("write", "create"):
            volatile |= {path, path.parent} if call == "create" else {path}
        elif call == "fsync":
            volatile.discard(path)
        else:
            lost = [found for found in volatile if found.is_relative_to(path)]
            assert not lost, f"renamed before it was forced to disk: {lost}"
            volatile.add(Path(second).parent)
    kept = {found for found in volatile if found.exists() and found.name not in (".lock", "")}
    assert not kept, f"only in memory when the call returned: {sorted(kept)}"
    return len(lines)


def main(name: str, folder: Path) -> None:
    """Run one scenario with all failures and, except for the store, the power loss."""
    scenario, failed = SCENARIOS[name], 0
    for number in ERRORS:
        for sticky in (False, True):
            for call in range(1, _MOST_CALLS):
                try:
                    if not _attempt(scenario, folder, call, number, sticky):
                        break
                except AssertionError as error:
                    kind = "sticky" if sticky else "once"
                    text = f"call {call}, {errno.errorcode[number]}, {kind}: {error}"
                    raise AssertionError(text) from error
                failed += 1
    replayed = 0 if name == "store" else _power_loss(scenario, folder)  # it forces nothing to disk
    print(f"{failed} failures, {replayed} calls replayed")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile `failing_disk.c` to a library for LD_PRELOAD and return its path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and LD_PRELOAD")
    target = tmp_path_factory.mktemp("library") / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    python_program.ran(compiler, "-O1", "-shared", "-fPIC", "-o", target, source, "-ldl")
    return target


@pytest.mark.parametrize(
    "name",
    # A store makes hundreds of calls, each of which fails once.
    [
        pytest.param(name, marks=pytest.mark.slow if name == "store" else ())
        for name in sorted(SCENARIOS)
    ],
)
def test_no_partial_state_is_read_after_any_failed_write(tmp_path: Path, name: str, library: Path):
    program = (sys.executable, "-m", "tests.trials.test_failing_disk")
    said = python_program.ran(*program, name, tmp_path, LD_PRELOAD=str(library)).stdout
    failures = int(said.split()[0])
    assert failures >= 20, "the library was not called"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) / "watched")
