"""Tests that NOTICE names the licence of every backbone's weights."""

import tomllib
from fnmatch import fnmatchcase

import pytest

from imgpipe.models.backbones import registry
from imgpipe.models.settings.settings import Settings
from tests.conftest import REPOSITORY

WEIGHTS = registry.packaged_weights()


@pytest.mark.parametrize("name", WEIGHTS)
def test_notice_names_the_package_of_weights_with_its_licence(name: str):
    """A package may be named by a pattern, so that one entry is enough for a family."""
    entries = (REPOSITORY / "NOTICE").read_text("utf-8").split("\n\n")
    package = WEIGHTS[name]
    words = [entry.replace(",", " ").split() for entry in entries]
    named = [one for one in words if any(fnmatchcase(package.distribution, word) for word in one)]
    assert len(named) == 1, f"NOTICE has {len(named)} entries for {package.distribution}"
    assert package.license in named[0]


def test_only_the_weights_of_the_default_backbone_are_required():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    default = WEIGHTS[Settings().model.backbone].distribution
    names = {package.distribution for package in WEIGHTS.values()}
    required = {line.split("==")[0] for line in project["dependencies"]}
    optional = {line.split("==")[0] for line in project["optional-dependencies"]["backbones"]}
    assert names & required == {default}
    assert optional == names - {default}
