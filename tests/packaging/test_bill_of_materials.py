"""Tests of `make bill`: the bill of materials has every locked package."""

import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .conftest import make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def _pinned(requirement: Requirement) -> tuple[str, str]:
    (version,) = requirement.specifier
    return requirement.name, version.version


def test_the_bill_names_every_locked_package(tmp_path: Path):
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
