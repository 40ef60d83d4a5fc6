"""What killed runs leave in an output folder is removed by the next one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from imgpipe.pipeline import temporary


def test_files_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path):
    folders = ("", "artifacts/DataGate/blessing", "runs/1", "schema/accepted/ab", "resume")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "kept").write_text("")
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from imgpipe.models.atomic_write import writing\n"
            "with writing(Path(sys.argv[1]) / 'file') as beside:\n"
            "    beside.write_text('half'); os._exit(9)\n"
        )
        command = [sys.executable, "-c", program, str(tmp_path / folder)]
        assert subprocess.run(command, timeout=60, check=False).returncode == 9
        assert list((tmp_path / folder).glob(".tmp-*"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".tmp-another-publisher").mkdir()
    (tmp_path / "runs" / "1" / "tmp").mkdir()
    temporary.sweep(tmp_path)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"kept"}
    assert (tmp_path / "model" / ".tmp-another-publisher").is_dir()
    assert not (tmp_path / "runs" / "1" / "tmp").exists()
