"""Tests of imgpipe-client: it works with its own requirements and beside imgpipe."""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from tests.conftest import REPOSITORY
from tests.serving.conftest import write_image_model
from tests.serving.quick import running

from .conftest import (
    SITE_PACKAGES,
    build,
    environment,
    failure,
    install,
    program_of_uv,
    run,
    site_packages,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of imgpipe-client."""
    return build(REPOSITORY / "packaging" / "client", tmp_path_factory.mktemp("client"), "wheel")


@pytest.fixture(scope="module")
def client(client_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the programs of an environment with the client and its requirements.

    The packages are linked from the environment of the tests, so that no network is needed. pip
    checks that they meet all requirements of the client.
    """
    python = environment(tmp_path_factory.mktemp("alone") / "venv")
    with zipfile.ZipFile(client_wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    required = [line.split(": ", 1)[1] for line in lines if line.startswith("Requires-Dist: ")]
    for name in sorted(_with_dependencies(required)):
        _link(importlib.metadata.distribution(name), site_packages(python))
    install(python, client_wheel)
    return python.parent


def _with_dependencies(requirements: list[str]) -> set[str]:
    """Return the names of the packages that are required, directly or not, without extras."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in found:
            found.add(requirement.name)
            waiting += importlib.metadata.requires(requirement.name) or []
    return found


def _link(package: importlib.metadata.Distribution, folder: Path) -> None:
    """Link the files of an installed package into another environment's `site-packages`."""
    for file in package.files or ():
        source = SITE_PACKAGES / file
        if ".." not in file.parts and source.is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).symlink_to(source)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server with a small classifier as version 7."""
    base = tmp_path_factory.mktemp("server")
    write_image_model(base / "7")
    with running(base, "imgpipe") as server:
        yield server.target


_ASKED = '7 [] text that begins with "Hello"'


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


def test_the_client_classifies_without_tensorflow(client: Path, server: str, tmp_path: Path):
    assert _asked(client / "python", server, tmp_path) == _ASKED
    assert not (client / "imgpipe").exists()


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_the_client_works_with_the_oldest_and_the_newest_python(
    client_wheel: Path, server: str, tmp_path: Path, version: str
):
    """Its requirements come from the package index, which has other versions of them for 3.9."""
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
    assert _asked(python, server, tmp_path) == _ASKED


def test_the_files_of_the_client_equal_those_of_imgpipe(client_wheel: Path, wheel: Path):
    with zipfile.ZipFile(client_wheel) as part, zipfile.ZipFile(wheel) as whole:
        for name in part.namelist():
            if ".dist-info/" not in name:
                assert part.read(name) == whole.read(name), name


def test_both_can_be_installed(client_wheel: Path, python: Path, tmp_path: Path):
    install(python, "--no-deps", client_wheel)
    imgpipe = python.parent / "imgpipe"
    assert "--timeout" in run(imgpipe, "predict", "--help", cwd=tmp_path)
