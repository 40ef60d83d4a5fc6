"""Runs the examples of `how-to/open-exports.md` with the oldest programs that the page names.

They are in `.tools`, each as a virtual environment with the packages of its example and Pillow, or
with `onnxruntime-web` as npm installs it. Where one is missing, its example is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import imgpipe
from tests.document_blocks import blocks
from tests.images import encoded, noise
from tests.pipeline import small_version

_ROOT = Path(__file__).resolve().parents[2]
_TOOLS = _ROOT / ".tools"
_PAGE = _ROOT / "docs" / "how-to" / "open-exports.md"
#: What a page in a browser has, for the example in JavaScript.
_BROWSER = """
import * as ort from "onnxruntime-web";
const context = {{ getImageData: (x, y, w, h) => ({{ data: new Uint8ClampedArray(w * h * 4) }}) }};
const canvas = {{ getContext: () => context }};
{}
"""


@pytest.fixture(scope="module")
def exported(out, tmp_path_factory):
    """Return a folder with an image and all exports of a version, named as on the page."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "picture.jpg").write_bytes(encoded(noise(1, (32, 24))))
    for kind in ("tflite", "onnx", "keras"):
        imgpipe.export(kind, out, folder / f"model.{kind}")
    imgpipe.export("saved_model", out, folder / "copy" / "1")
    return folder


def _example(part: str) -> str:
    """Return the example of the page that contains a text."""
    return next(one.text for one in blocks(_PAGE) if part in one.text and "export" not in one.text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ("mediapipe", "from mediapipe"),
        ("onnxruntime-1.12", "import onnxruntime"),
        ("keras-3.4", "import keras"),
        ("tensorflow-2.10", "import tensorflow"),
    ],
)
def test_an_older_program_opens_the_export_and_names_a_class(exported, environment, part):
    python = _TOOLS / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs a virtual environment with it in .tools/{environment}")
    command = [python, "-W", "ignore", "-c", _example(part)]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert any(name in done.stdout for name in small_version.CLASSES)


@pytest.mark.slow
def test_the_example_for_browsers_answers(exported):
    modules = _TOOLS / "onnxruntime-web" / "node_modules"
    if not modules.exists() or shutil.which("node") is None:
        pytest.skip("needs node, and onnxruntime-web in .tools/onnxruntime-web")
    (exported / "node_modules").symlink_to(modules)
    (exported / "page.mjs").write_text(_BROWSER.format(_example("ort.InferenceSession")))
    command = ["node", "page.mjs"]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Float32Array(2)")
