"""Tests of imgpipe-client: it works with its own requirements and beside imgpipe."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.pipeline import small_version
from tests.serving.quick import running

from .conftest import failure, install, program_of_uv, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server with a small classifier as version 7."""
    base = tmp_path_factory.mktemp("server")
    small_version.write(base / "7")
    with running(base, "imgpipe") as server:
        yield server.target


def _asked(python: Path, server: str, folder: Path) -> str:
    """Classify an image by the client of a Python, and import all of it; return what was printed.

    This is the version that answered, the heavy packages that were imported, and what a text is.
    """
    photo = folder / "a.jpg"
    Image.effect_noise((40, 30), 50).save(photo)
    program = (
        "import importlib, pkgutil, sys, imgpipe\n"
        f"with imgpipe.Client({server!r}) as client:\n"
        f"    whole, = client.classify([{str(photo)!r}])\n"
        "for module in pkgutil.walk_packages(imgpipe.__path__, 'imgpipe.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = sorted({'tensorflow', 'tfx', 'ml_dtypes'} & set(sys.modules))\n"
        "from imgpipe.serving import look\n"
        "print(whole.version, heavy, look.Look(b'Hello').described()[0])"
    )
    return run(python, "-c", program, cwd=folder).strip()


@pytest.mark.parametrize("version", ["3.9", "3.13", pytest.param(sys.executable, id="this")])
def test_the_client_classifies_with_its_own_requirements_alone_in_every_python(
    client_wheel: Path, server: str, tmp_path: Path, version: str
):
    """They come from the package index, which has other versions of them for 3.9."""
    uv = program_of_uv()
    folder = tmp_path / "venv"
    why = failure(uv, "venv", "--quiet", "--python", version, folder, cwd=tmp_path)
    if why:
        pytest.skip(
            f"needs Python {version}, which uv neither finds nor downloads: {why.splitlines()[0]}"
        )
    python = folder / "bin" / "python"
    why = failure(uv, "pip", "install", "--python", python, client_wheel, cwd=tmp_path)
    if "Failed to fetch" in why:
        pytest.skip(f"needs a package index: {why}")
    assert not why, why
    assert _asked(python, server, tmp_path) == '7 [] text that begins with "Hello"'
    assert not (python.parent / "imgpipe").exists()


def test_the_files_of_the_client_equal_those_of_imgpipe(client_wheel: Path, wheel: Path):
    with zipfile.ZipFile(client_wheel) as part, zipfile.ZipFile(wheel) as whole:
        for name in part.namelist():
            if ".dist-info/" not in name:
                assert part.read(name) == whole.read(name), name


def test_both_can_be_installed(client_wheel: Path, python: Path, tmp_path: Path):
    install(python, "--no-deps", client_wheel)
    imgpipe = python.parent / "imgpipe"
    assert "--timeout" in run(imgpipe, "predict", "--help", cwd=tmp_path)
