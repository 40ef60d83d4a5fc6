"""Tests of `make bill`: the bill of materials and the licences have every locked package."""

import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import python_program
from tests.conftest import REPOSITORY

from .conftest import make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

_UNKNOWN = {"", "unknown", "none", "other", "proprietary"}


def _pinned(requirement: Requirement) -> tuple[str, str]:
    (version,) = requirement.specifier
    return requirement.name, version.version


def test_the_bill_names_every_locked_package_with_its_licence(tmp_path: Path):
    # The environment of the tests is used without updating it.
    make(tmp_path, "--old-file=.venv/.ready", "bill", f"RUN={Path(sys.executable).parent}")
    lines = re.findall(r"^[\w.-]+==[^\\\n]*", (tmp_path / "requirements.txt").read_text(), re.M)
    pins = [Requirement(line) for line in lines]
    bill = json.loads((tmp_path / "imgpipe.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["name"] == "imgpipe"
    components = sorted((one["name"], one["version"]) for one in bill["components"])
    assert len(components) > 200 and components == sorted(map(_pinned, pins))
    for one in bill["components"]:
        assert one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert all(reference["hashes"] for reference in one["externalReferences"])

    head, rule, *lines = (tmp_path / "LICENSES.md").read_text().splitlines()
    assert (head, rule) == ("| package | version | licence |", "|---|---|---|")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    listed = sorted((canonicalize_name(name), version) for name, version, _ in rows)
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert listed == sorted(map(_pinned, here))
    assert [name for name, _, licence in rows if licence.lower() in _UNKNOWN] == []


def test_a_package_that_is_not_installed_is_an_error(tmp_path: Path):
    program = REPOSITORY / "packaging" / "licenses.py"
    (tmp_path / "more.txt").write_text("numpy==2.0\nno-such-package==1.0\n")
    files = (tmp_path / "more.txt", tmp_path / "LICENSES.md")
    done = python_program.ran(sys.executable, program, *files, code=1)
    assert "more.txt pins 2 packages, but 1 of them are installed." in done.stderr
    assert not (tmp_path / "LICENSES.md").exists()
