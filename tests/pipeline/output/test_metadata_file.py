"""Tests that an unusable metadata database is reported in one sentence and can be repaired."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.output import metadata_file

ROWS = 3000


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with a database of `ROWS` rows that looks like ML Metadata's."""
    folder = tmp_path / "out"
    folder.mkdir()
    with sqlite3.connect(folder / metadata_file.NAME) as db:
        db.execute("CREATE TABLE MLMDEnv (schema_version INTEGER PRIMARY KEY)")
        db.execute("CREATE TABLE Artifact (id INTEGER PRIMARY KEY, uri TEXT)")
        db.execute("CREATE INDEX by_uri ON Artifact (uri)")
        rows = [(number, f"/artifacts/{number:06d}") for number in range(ROWS)]
        db.executemany("INSERT INTO Artifact VALUES (?, ?)", rows)
    return folder


def change(out: Path, start: int, content: bytes) -> None:
    """Overwrite bytes of the database from position ``start``."""
    with (out / metadata_file.NAME).open("r+b") as file:
        file.seek(start)
        file.write(content)


def test_an_intact_and_a_missing_database_can_be_used(out: Path, tmp_path: Path):
    metadata_file.require_usable(out)
    metadata_file.require_usable(tmp_path / "new")


def test_a_truncated_database_is_reported(out: Path):
    os.truncate(out / metadata_file.NAME, 5000)
    with pytest.raises(ResourceError, match=f"damaged: .*imgpipe doctor {out} --repair") as caught:
        metadata_file.require_usable(out)
    assert caught.value.exit_code == 5


def test_the_command_that_repairs_quotes_a_name_with_spaces():
    command = metadata_file.repair_command(Path("my runs"))
    assert command == "imgpipe doctor 'my runs' --repair"


def test_a_file_that_is_no_database_is_reported(out: Path):
    change(out, 0, os.urandom(4096))
    assert "is damaged: file is not a database" in metadata_file.fault(out)


def test_flipped_bytes_are_harmless_or_reported_and_can_be_repaired(out: Path):
    path, numbers = out / metadata_file.NAME, random.Random(4)
    whole = path.read_bytes()
    faults = 0
    for _ in range(60):
        content = bytearray(whole)
        for place in numbers.sample(range(len(content)), 100):
            content[place] ^= 255
        path.write_bytes(content)
        if metadata_file.fault(out):
            faults += 1
            assert "--repair" in metadata_file.fault(out)
            metadata_file.repair(out)
            assert metadata_file.fault(out) == ""
    assert faults


def test_text_that_is_not_utf8_is_reported(out: Path):
    path = out / metadata_file.NAME
    path.write_bytes(path.read_bytes().replace(b"/artifacts/000007", b"/artif\xff\xfes/000007"))
    assert "imgpipe doctor" in metadata_file.fault(out)


def test_a_database_of_another_program_is_reported(out: Path):
    (out / metadata_file.NAME).unlink()
    with sqlite3.connect(out / metadata_file.NAME) as db:
        db.execute("CREATE TABLE notes (text TEXT)")
    assert "a SQLite database of another program" in metadata_file.fault(out)


def test_a_folder_in_place_of_the_database_is_reported(out: Path):
    (out / metadata_file.NAME).unlink()
    (out / metadata_file.NAME).mkdir()
    assert "is not a file" in metadata_file.fault(out)


@contextlib.contextmanager
def locked_by_another_program(out: Path) -> Iterator[None]:
    """Lock the database in another process during the block."""
    program = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN EXCLUSIVE')\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(out / metadata_file.NAME)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        yield
        process.stdin.close()
        process.wait(timeout=30)


def test_a_database_locked_by_another_program_is_reported(
    out: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metadata_file, "BUSY_SECONDS", 0.1)
    with locked_by_another_program(out):
        assert "is in use by another program" in metadata_file.fault(out)
    assert metadata_file.fault(out) == ""


def test_a_locked_database_is_not_copied_and_leaves_no_file(
    out: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metadata_file, "BUSY_SECONDS", 0.1)
    with (
        locked_by_another_program(out),
        pytest.raises(sqlite3.OperationalError, match="database is locked"),
    ):
        metadata_file.keep_copy(out)
    assert [path.name for path in out.iterdir()] == [metadata_file.NAME]


def test_the_tables_of_another_version_of_ml_metadata_are_reported(out: Path):
    with sqlite3.connect(out / metadata_file.NAME) as db:
        db.execute("INSERT INTO MLMDEnv VALUES (11)")
    expected = "expected schema version 10, received 11. Use the version of imgpipe that wrote it"
    assert expected in metadata_file.fault(out)
    assert "The next run creates a new database" in metadata_file.repair(out)
    assert metadata_file.fault(out) == ""


def test_the_expected_version_of_the_tables_is_that_of_ml_metadata(tmp_path: Path):
    mlmd = pytest.importorskip("ml_metadata")
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / metadata_file.NAME)
    config.sqlite.connection_mode = config.sqlite.READWRITE_OPENCREATE
    mlmd.MetadataStore(config)
    metadata_file.require_usable(tmp_path)
    with sqlite3.connect(tmp_path / metadata_file.NAME) as db:
        assert db.execute("SELECT schema_version FROM MLMDEnv").fetchall() == [(10,)]


def test_a_database_that_a_killed_run_was_changing_can_be_read(
    out: Path, monkeypatch: pytest.MonkeyPatch
):
    program = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA cache_size=5')\n"
        "db.execute('UPDATE Artifact SET uri = uri || uri'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, out / metadata_file.NAME], check=False)
    assert (out / f"{metadata_file.NAME}-journal").exists()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert "unfinished change of a run that was killed" in metadata_file.fault(out, True)
    assert metadata_file.fault(out, to_read=True) == ""
    with sqlite3.connect(out / metadata_file.NAME) as db:
        assert db.execute("SELECT max(length(uri)) FROM Artifact").fetchone() == (17,)


def test_a_path_too_long_for_sqlite_is_reported(tmp_path: Path):
    long = tmp_path / "/".join(["n" * 200] * 3)
    assert "SQLite cannot open longer ones. Choose a shorter --out" in metadata_file.fault(long)


def test_repair_renames_a_database_that_cannot_be_read(out: Path):
    change(out, 0, os.urandom(4096))
    damaged = (out / metadata_file.NAME).read_bytes()
    (out / "model" / "1").mkdir(parents=True)
    told = metadata_file.repair(out)
    [aside] = out.glob("metadata.damaged-*.sqlite")
    assert aside.name in told
    assert aside.read_bytes() == damaged
    assert metadata_file.fault(out) == ""
    assert sorted(path.name for path in out.iterdir()) == sorted([aside.name, "model"])


def test_repair_keeps_all_rows_of_a_database_with_a_damaged_index(out: Path):
    path = out / metadata_file.NAME
    with sqlite3.connect(path) as db:
        [(page,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_uri'")
        [size] = db.execute("PRAGMA page_size").fetchone()
    change(out, (page - 1) * size, b"\x00" * size)
    assert "is damaged" in metadata_file.fault(out)
    assert "was rebuilt from what could be read" in metadata_file.repair(out)
    assert metadata_file.fault(out) == ""
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM Artifact").fetchone() == (ROWS,)


def test_repair_restores_the_copy_of_the_last_run(out: Path):
    metadata_file.keep_copy(out)
    change(out, 0, os.urandom(4096))
    told = metadata_file.repair(out)
    assert "was renamed to metadata.damaged-" in told
    assert "was restored from the copy of the run that ended at" in told
    assert metadata_file.fault(out) == ""
    with sqlite3.connect(out / metadata_file.NAME) as db:
        assert db.execute("SELECT count(*) FROM Artifact").fetchone() == (ROWS,)


def test_repair_restores_a_database_that_was_removed(out: Path):
    metadata_file.keep_copy(out)
    assert not metadata_file.is_lost(out)
    (out / metadata_file.NAME).unlink()
    assert metadata_file.is_lost(out)
    assert "takes the results of that run" in metadata_file.repair(out)
    assert metadata_file.fault(out) == "" and not metadata_file.is_lost(out)


def test_a_damaged_copy_is_not_restored(out: Path):
    metadata_file.keep_copy(out)
    (out / metadata_file.COPY).write_bytes(b"garbage" * 1000)
    (out / metadata_file.NAME).unlink()
    assert "its copy cannot be read. The next run creates a new" in metadata_file.repair(out)
    assert not (out / metadata_file.NAME).exists()


def test_a_copy_is_kept_where_no_database_was_created(out: Path):
    metadata_file.keep_copy(out)
    (out / metadata_file.NAME).unlink()
    metadata_file.keep_copy(out)
    assert [path.name for path in out.iterdir()] == [metadata_file.COPY]
    assert "was restored from the copy" in metadata_file.repair(out)


def test_a_run_without_a_database_removes_the_stale_copy(out: Path):
    metadata_file.keep_copy(out)
    metadata_file.forget_stale_copy(out)
    assert (out / metadata_file.COPY).exists()
    (out / metadata_file.NAME).unlink()
    metadata_file.forget_stale_copy(out)
    assert not (out / metadata_file.COPY).exists()
