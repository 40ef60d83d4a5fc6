"""Architectures: how a network is built and which weights exist for it, found by name."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from imgpipe.models.backbones import architectures
from imgpipe.models.errors import ConfigError, ResourceError, nearest
from imgpipe.models.machine.system import install_extra

if TYPE_CHECKING:
    import keras

    from imgpipe.models.backbones.presets import Preset


@dataclass(frozen=True)
class BackboneChoice:
    """The options chosen for an architecture.

    Attributes:
        name: Name of the architecture, as `names` lists it.
        weights: "imagenet", "none" (random weights) or the path of a local weights file.
    """

    name: str
    weights: str = "imagenet"


@dataclass(frozen=True)
class PackagedWeights:
    """ImageNet weights in a file of a package that is installed for them, and not imported."""

    distribution: str  # name of the package for pip
    file: str  # path of the file below the folder of the installed packages
    sha256: str  # hex, of the file with which the code of the network was tested
    license: str  # SPDX identifier of that of the weights, which NOTICE names too

    @property
    def installed(self) -> bool:
        """Whether the package is installed; its file may be damaged all the same."""
        return any(importlib.metadata.distributions(name=self.distribution))

    def content(self) -> bytes:
        """Return the content of the file, which has the expected SHA-256.

        A ResourceError says that the package is not installed, or that its file cannot be read or
        is another one.
        """
        if not self.installed:
            raise ResourceError(
                f"the weights package {self.distribution} is not installed. Install it with: "
                f"{install_extra('backbones')}"
            )
        path = Path(str(importlib.metadata.distribution(self.distribution).locate_file(self.file)))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ResourceError(f"cannot read the weights {path}: {error}") from error
        received = hashlib.sha256(content).hexdigest()
        if received != self.sha256:
            raise ResourceError(
                f"{path} is not the weights file this code was tested with. Expected SHA-256 "
                f"{self.sha256}. Received: {received}. Install the package again"
            )
        return content


@functools.cache
def checked_sha256(weights: PackagedWeights) -> str:
    """Return the SHA-256 (hex) of packaged weights, after comparing it with that of their file.

    It raises the errors of `PackagedWeights.content`.
    """
    weights.content()
    return weights.sha256


@dataclass(frozen=True)
class Architecture:
    """Description of an architecture and of how to build it.

    Attributes:
        name: Name of the architecture in the settings.
        image_size: Side in pixels of the images for which it was designed; 0 if its preset says it.
        build: Builds the functional model from pixels [N, H, W, 3], 0..255, to its last feature
            map, with the chosen weights; to this and a class token [N, 1, 1, C], if it has one.
            Its layers may include BatchNorm and may be trainable.
        folded: Builds the network with ImageNet weights on pixels [N, H, W, 3], with the given
            value of `trainable` of every layer, and returns its last feature map. It has no
            BatchNorm to fold, so that it need not be copied. With None, a copy of what `build`
            returns is used.
        imagenet: Whether ImageNet weights exist for it.
        weights_by_size: Whether it has other ImageNet weights for some sizes of the images.
        packaged: Its ImageNet weights in an installed package; None when Keras downloads them.
        downloaded_to: Returns the path to which Keras downloads them, for a side in pixels; None
            when it does not.
        code_sha256: Returns the SHA-256 (hex) of code outside this package that builds the network;
            None when there is none.
        levels: Layers below the last one whose feature maps a head reads too, the highest first;
            () leaves the choice to `layer_graph.levels`.
        preset: The preset of KerasHub that describes it and has its weights; None for all others.
    """

    name: str
    image_size: int
    build: Callable[[BackboneChoice, tuple[int, int]], keras.Model]
    folded: Callable[[keras.KerasTensor, bool], keras.KerasTensor] | None = None
    imagenet: bool = True
    weights_by_size: bool = False
    packaged: PackagedWeights | None = None
    downloaded_to: Callable[[int], Path] | None = None
    code_sha256: Callable[[], str] | None = None
    levels: tuple[str, ...] = ()
    preset: Preset | None = None


def names() -> tuple[str, ...]:
    """Return the names of the architectures. `architecture` also accepts names of a pattern."""
    return tuple(_architectures())


def packaged_weights() -> dict[str, PackagedWeights]:
    """Return the weights in installed packages by the name of their architecture."""
    return {
        name: entry.packaged
        for name, entry in _architectures().items()
        if entry.packaged is not None
    }


def architecture(name: str) -> Architecture:
    """Return the architecture with a name.

    Args:
        name: One of `names`, or a name of a pattern, such as `conv_16_32`, `module:function` or
            `hub:dinov2_small`.

    Raises:
        ConfigError: There is no such architecture.
    """
    entries = _architectures()
    if name in entries:
        return entries[name]
    for module in _modules():
        entry: Architecture | None = getattr(module, "named", lambda name: None)(name)
        if entry:
            return entry
    raise ConfigError(
        f"unknown backbone. Expected one of: {', '.join(entries)}. Received: {name!r}"
        f"{nearest(name, entries)}"
    )


@functools.cache
def _modules() -> list[ModuleType]:
    """Import the modules in the folder `architectures/`, which import this one."""
    files = pkgutil.iter_modules(architectures.__path__)
    return [importlib.import_module(f"{architectures.__name__}.{file.name}") for file in files]


@functools.cache
def _architectures() -> dict[str, Architecture]:
    return {entry.name: entry for module in _modules() for entry in module.ARCHITECTURES}
