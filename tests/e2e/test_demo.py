"""The first command of the README, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_publishes_a_model_and_classifies_a_new_image(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgpipe.pipeline.cli", "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "classified a new image of paper over gRPC: paper" in done.stdout
    look, try_it = done.stdout.splitlines()[-2:]
    assert look == f"Look at it in a browser: imgpipe open {tmp_path}/demo/run"
    assert try_it.endswith(f"http://localhost:8501/: imgpipe serve {tmp_path}/demo/run")
    assert (tmp_path / "demo/run/model/1/saved_model.pb").exists()
    assert len(list((tmp_path / "demo/run").glob("runs/*/report.html"))) == 1
