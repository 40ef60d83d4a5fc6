"""Runs the examples of `how-to/open-exports.md` with the oldest programs that the page names.

They are in `.tools`, each as a virtual environment with the packages of its example and Pillow, or
with `onnxruntime-web` as npm installs it. Where one is missing, its example is skipped.
"""

import shutil
import sys

import pytest
from PIL import Image

import imgpipe
from tests import python_program
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks, in_a_browser
from tests.images import encoded, exif, noise
from tests.pipeline import small_version

_TOOLS = REPOSITORY / ".tools"
_PAGE = REPOSITORY / "docs" / "how-to" / "open-exports.md"
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
    return next(one.text for one in blocks(_PAGE) if part in one.text and "imgpipe" not in one.text)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["import onnxruntime", "import keras", "import tensorflow"])
def test_a_turned_photograph_gets_the_label_and_the_probabilities_of_the_served_model(
    exported, out, part
):
    code = _example(part)
    program = f"{code}\n{_PROBABILITIES.get(part, '')}"
    done = python_program.ran(sys.executable, "-W", "ignore", "-c", program, cwd=exported)
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
    [("onnxruntime-1.12", "import onnxruntime"), ("tensorflow-2.10", "import tensorflow")],
)
def test_an_older_program_opens_the_export_and_names_a_class(exported, environment, part):
    python = _TOOLS / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs a virtual environment with it in .tools/{environment}")
    done = python_program.ran(python, "-W", "ignore", "-c", _example(part), cwd=exported)
    assert any(name in done.stdout for name in small_version.CLASSES)


@pytest.mark.slow
def test_the_example_for_browsers_answers(exported):
    modules = _TOOLS / "onnxruntime-web" / "node_modules"
    if not modules.exists() or shutil.which("node") is None:
        pytest.skip("needs node, and onnxruntime-web in .tools/onnxruntime-web")
    (exported / "node_modules").symlink_to(modules)
    known = 'import * as ort from "onnxruntime-web";\nconst file = null;\n'
    program = in_a_browser(known + _example("ort.InferenceSession"), noise(1, (40, 30)))
    (exported / "page.mjs").write_text(program)
    done = python_program.ran("node", "page.mjs", cwd=exported)
    assert done.stdout.startswith("Float32Array(2)")
