"""Runs the examples of `how-to/open-exports.md` with the oldest programs that the page names.

They are in `.tools`, each as a virtual environment with the packages of its example and Pillow, or
with `onnxruntime-web` as npm installs it. Where one is missing, its example is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import imgpipe
from tests.document_blocks import blocks
from tests.images import encoded, exif, noise
from tests.pipeline import small_version

_ROOT = Path(__file__).resolve().parents[2]
_TOOLS = _ROOT / ".tools"
_PAGE = _ROOT / "docs" / "how-to" / "open-exports.md"
#: What a page in a browser has, for the example in JavaScript.
_BROWSER = """
import * as ort from "onnxruntime-web";
const [width, height, file] = [40, 30, null];
const data = new Uint8ClampedArray(width * height * 4);
globalThis.createImageBitmap = async () => ({{ width, height }});
globalThis.OffscreenCanvas = class {{
  getContext() {{
    return {{ drawImage() {{}}, getImageData: () => ({{ data, width, height }}) }};
  }}
}};
{}
"""


#: What the examples do not print.
_PROBABILITIES = {
    "import onnxruntime": "print(*probabilities)",
    "import keras": "print(*model.predict(pixels[None], verbose=0)[0])",
}


@pytest.fixture(scope="module")
def exported(out, tmp_path_factory):
    """Return a folder with an image and all exports of a version, named as on the page."""
    folder = tmp_path_factory.mktemp("exported")
    stored = Image.fromarray(noise(1, (4, 3))).resize((320, 240))
    (folder / "picture.jpg").write_bytes(encoded(stored, "JPEG", quality=95, exif=exif(6)))
    for block in blocks(_PAGE):
        if block.title:
            (folder / block.title).write_text(block.text)
    for kind in ("tflite", "onnx", "keras"):
        imgpipe.export(kind, out, folder / f"model.{kind}")
    imgpipe.export("saved_model", out, folder / "copy" / "1")
    return folder


def _example(part: str) -> str:
    """Return the example of the page that contains a text."""
    return next(one.text for one in blocks(_PAGE) if part in one.text and "imgpipe" not in one.text)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["import onnxruntime", "import keras", "import tensorflow"])
def test_a_turned_photograph_gets_the_label_and_the_probabilities_of_the_served_model(
    exported, out, part
):
    code = _example(part)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{code}\n{_PROBABILITIES.get(part, '')}"],
        cwd=exported,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    with imgpipe.load(out) as model:
        [served] = model.predict(exported / "picture.jpg")
    label, *probabilities = done.stdout.split()
    assert label == served.label
    if probabilities:
        found = dict(zip(model.classes, map(float, probabilities), strict=True))
        assert found == pytest.approx(dict(served.top), abs=0.02)


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
