"""Tests that an unusable metadata database is set aside, and one in use is left alone."""

import contextlib
import os
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
    with contextlib.closing(sqlite3.connect(folder / metadata_file.NAME)) as db, db:
        db.execute("CREATE TABLE MLMDEnv (schema_version INTEGER PRIMARY KEY)")
        db.execute("CREATE TABLE Artifact (id INTEGER PRIMARY KEY, uri TEXT)")
        db.execute("CREATE INDEX by_uri ON Artifact (uri)")
        rows = [(number, f"/artifacts/{number:06d}") for number in range(ROWS)]
        db.executemany("INSERT INTO Artifact VALUES (?, ?)", rows)
    return folder


def change(out: Path, start: int, content: bytes) -> None:
    """Overwrite bytes of the database from position `start`."""
    with (out / metadata_file.NAME).open("r+b") as file:
        file.seek(start)
        file.write(content)


def test_an_intact_and_a_missing_database_can_be_used(out: Path, tmp_path: Path):
    assert metadata_file.set_aside_if_damaged(out / metadata_file.NAME) == ""
    assert metadata_file.set_aside_if_damaged(tmp_path / "new" / metadata_file.NAME) == ""


def _spoil(out: Path, kind: str) -> None:
    path = out / metadata_file.NAME
    if kind == "truncated":
        os.truncate(path, 5000)
    elif kind == "garbage":
        change(out, 0, os.urandom(4096))
    elif kind == "of another version":
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("INSERT INTO MLMDEnv VALUES (11)")
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
        else:
            with contextlib.closing(sqlite3.connect(path)) as db, db:
                db.execute("CREATE TABLE notes (text TEXT)")


@pytest.mark.parametrize(
    "kind", ["truncated", "garbage", "of another version", "of another program", "a folder"]
)
def test_a_database_that_cannot_be_used_is_set_aside(out: Path, kind: str):
    _spoil(out, kind)
    (out / f"{metadata_file.NAME}-journal").write_bytes(b"")
    told = metadata_file.set_aside_if_damaged(out / metadata_file.NAME)
    assert told.startswith(f"{out / metadata_file.NAME} is damaged, or of another version of ML ")
    assert "executes every component again" in told
    kept = sorted(path.name[:17] for path in out.iterdir())
    assert kept == ["metadata.damaged-"] * 2, "the database and its journal"


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


def test_a_database_in_use_is_left_alone(out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata_file, "BUSY_SECONDS", 0.1)
    with (
        locked_by_another_program(out),
        pytest.raises(ResourceError, match="is in use by another program"),
    ):
        metadata_file.set_aside_if_damaged(out / metadata_file.NAME)
    assert metadata_file.set_aside_if_damaged(out / metadata_file.NAME) == ""


def test_the_expected_version_of_the_tables_is_that_of_ml_metadata(tmp_path: Path):
    mlmd = pytest.importorskip("ml_metadata")
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / metadata_file.NAME)
    config.sqlite.connection_mode = config.sqlite.READWRITE_OPENCREATE
    mlmd.MetadataStore(config)
    assert metadata_file.set_aside_if_damaged(tmp_path / metadata_file.NAME) == ""
    with contextlib.closing(sqlite3.connect(tmp_path / metadata_file.NAME)) as db, db:
        assert db.execute("SELECT schema_version FROM MLMDEnv").fetchall() == [(10,)]
