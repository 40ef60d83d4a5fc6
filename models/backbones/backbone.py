"""A backbone is an architecture with chosen weights and the layer at which it is cut."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imgpipe.models import names
from imgpipe.models.backbones import presets, registry
from imgpipe.models.errors import ConfigError, ResourceError, nearest
from imgpipe.models.files import regular_files
from imgpipe.models.machine import progress

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

    from imgpipe.models.backbones.presets import Preset

#: Of a weights file. The largest of keras.applications has 1.4 GB; KerasHub divides files over 10.
_MOST_BYTES: Final = 12 << 30
#: Without this lock, two simultaneous builds would draw from one random generator in turns.
_BUILDING: Final = threading.RLock()
_NAMED: Final = ("imagenet", "none")  # weights that are not a file
_FILE_ENDINGS: Final = (".h5", ".keras")
_SHA256: Final = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Backbone(registry.BackboneChoice):
    """A network, or the lower part of one, that turns pixels into a feature map.

    TensorFlow is not imported before `build` is called.

    Attributes:
        weights_sha256: Expected SHA-256 (hex) of a local weights file or of the weights of a
            preset; "" skips the check.
        cut: Layer or block whose output is the feature map; "" is the last one.
        seed: Seed of random weights.

    Raises:
        ConfigError: There is no such architecture, or it does not support these values.
    """

    weights_sha256: str = ""
    cut: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        architecture = registry.architecture(self.name)
        preset = architecture.preset
        is_named = self.weights in _NAMED
        if preset is not None and not is_named:
            raise ConfigError(
                f'weights: those of {self.name} are in its preset. Expected "imagenet", which '
                f'means these, or "none". Received: {self.weights!r}'
            )
        if not is_named and not self.weights.endswith(_FILE_ENDINGS):
            raise ConfigError(
                'weights: expected "imagenet", "none" or the path of a file (.weights.h5, .h5, '
                f".keras). Received: {self.weights!r}{nearest(self.weights, _NAMED)}"
            )
        if self.weights == "imagenet" and not architecture.imagenet:
            raise ConfigError(
                f'weights: {self.name} has no ImageNet weights. Expected: weights = "none", to '
                "train it from scratch, or the path of a file. Received: 'imagenet'"
            )
        is_file = not is_named or (preset is not None and self.trained)
        if self.weights_sha256 and not (is_file and _SHA256.fullmatch(self.weights_sha256)):
            raise ConfigError(
                "weights_sha256: expected 64 hexadecimal digits, beside weights that are a file. "
                f"Received: {self.weights_sha256!r} beside {self.weights!r}"
            )

    @property
    def image_size(self) -> int:
        """Side in pixels of the images for which the architecture was designed; others work too.

        A preset may take images of this size only. Its files are read, or downloaded.
        """
        architecture = registry.architecture(self.name)
        preset = architecture.preset
        return architecture.image_size if preset is None else preset.image_size

    @property
    def class_token(self) -> bool:
        """Whether the network has a class token, which a head can read beside its feature map."""
        preset = None if self.cut else registry.architecture(self.name).preset
        return preset is not None and preset.class_token

    @property
    def levels(self) -> tuple[str, ...]:
        """Lower layers whose feature maps a head reads too; () leaves the choice to a rule."""
        return () if self.cut else registry.architecture(self.name).levels

    @property
    def trained(self) -> bool:
        """Whether the weights are trained, and not random."""
        return self.weights != "none"

    @property
    def local_file(self) -> Path | None:
        """Path of the weights file; None unless `weights` is a path."""
        return None if self.weights in _NAMED else Path(self.weights)

    def key(self, image_size: int = 0) -> str:
        """Return a hash (hex) of everything that determines the feature map of given pixels.

        Args:
            image_size: Side in pixels, by which some networks choose their weights; 0 is that of
                the architecture.

        Raises:
            ConfigError: The own network cannot be built.
            ResourceError: The weights are missing or are not the expected ones.
        """
        code_sha256 = registry.architecture(self.name).code_sha256
        parts: dict[str, object] = {"architecture": self.name, "cut": self.cut}
        if code_sha256 is not None:
            parts["code"] = code_sha256()  # before the network is built, because it imports it anew
        parts["weights"] = self._weights_key(image_size or self.image_size)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _weights_key(self, image_size: int) -> list[str]:
        keras = f"keras {importlib.metadata.version('keras')}"  # decides layers and initial values
        if self.local_file is not None:
            return [file_sha256(self.local_file, self.weights_sha256), keras]
        architecture = registry.architecture(self.name)
        if architecture.preset is not None:
            return [*self._preset_key(architecture.preset), keras]
        if architecture.code_sha256 is not None:
            with _seeded(self.seed):
                return [_built_sha256(architecture.build(self, (image_size, image_size))), keras]
        if self.weights == "none":  # the seed of trained weights decides nothing
            return ["none", str(self.seed), keras]
        packaged = architecture.packaged
        if packaged is not None:
            return [registry.checked_sha256(packaged)]
        downloaded_to = architecture.downloaded_to
        file = downloaded_to(image_size) if downloaded_to is not None else None
        # Without the file, `fetch` has still to download it.
        return ["imagenet", file_sha256(file) if file is not None and file.is_file() else "", keras]

    def _preset_key(self, preset: Preset) -> list[str]:
        """Return what of a preset decides the feature map: its files, and KerasHub's version."""
        described = [preset.file(name) for name in preset.described()]
        identity = [f"keras-hub {presets.installed()}", *map(file_sha256, described)]
        if self.trained:
            weights = preset.file(presets.WEIGHTS_FILE)
            return [*identity, file_sha256(weights, self.weights_sha256)]
        return [*identity, str(self.seed)]

    def fetch(self, image_size: int) -> None:
        """Download weights, unless they are in a cache, and build a preset or an own network.

        These are built so that their errors are found before the images are read, and so are
        files that are cut short. All else of local files and installed weights is checked by `key`.

        Args:
            image_size: Side in pixels; some architectures have other weights for each size.

        Raises:
            ConfigError: The architecture does not accept images of that size, or the own network
                cannot be used.
            ResourceError: The weights are not in the cache and cannot be downloaded, or their file
                is cut short.
        """
        from imgpipe.models.backbones import network_copy

        architecture = registry.architecture(self.name)
        if self.local_file is not None:
            network_copy.check_whole(self.local_file)
        if architecture.code_sha256 is not None:
            import keras

            self.build(keras.Input((image_size, image_size, 3)))
            return
        if architecture.preset is not None:
            progress.say(
                f"{self.name}: images of {image_size} pixels; files that are not on this machine "
                "are downloaded"
            )
        downloaded = self.weights == "imagenet" and architecture.packaged is None
        if downloaded or architecture.preset:
            architecture.build(self, (image_size, image_size))

    def build(self, pixels: KerasTensor, trainable: bool = False) -> list[KerasTensor]:
        """Build the network.

        BatchNorm layers are folded into the convolutions, which does not change the result. Only a
        network with random weights that is to be trained keeps them.

        Args:
            pixels: Symbolic input [N, H, W, 3], float, 0..255. The normalisation is part of the
                network and uses float32 with every dtype policy.
            trainable: Value of `trainable` of every layer.

        Returns:
            The feature map, symbolic [N, h, w, C], and after it the class token [N, 1, 1, C] if
            `class_token` is true.

        Raises:
            ConfigError: There is no such layer to cut at, the images are too small, or a layer has
                the name of one that imgpipe adds.
            ResourceError: The weights are missing, damaged or those of another architecture.
        """
        import keras
        from keras import tree

        from imgpipe.models.backbones import layer_graph, network_copy

        side = (pixels.shape[1], pixels.shape[2])
        architecture = registry.architecture(self.name)
        with _seeded(self.seed):
            # These networks are built with BatchNorm folded in already, so no copy is needed.
            if architecture.folded is not None and self.weights == "imagenet" and not self.cut:
                return [architecture.folded(pixels, trainable)]
            source = architecture.build(self, side)
            # Before the weights, which files of older Keras hold by name.
            network_copy.name_stably(source)
            if self.local_file is not None:
                file_sha256(self.local_file, self.weights_sha256)  # refuses any other file
                network_copy.load(source, self.local_file)
            if self.weights_sha256 and architecture.preset is not None:
                file_sha256(architecture.preset.file(presets.WEIGHTS_FILE), self.weights_sha256)
            if self.cut:
                source = keras.Model(
                    source.input, layer_graph.cut_layer(source, self.cut).outputs[0]
                )
            self._check_names(source)
            if architecture.preset is not None and not network_copy.of_keras(source):
                for layer in source.layers:
                    layer.trainable = trainable
                return tree.flatten(source.call(pixels))
            fold = self.trained or not trainable
            return network_copy.rebuild(source, pixels, trainable, fold)

    def _check_names(self, source: keras.Model) -> None:
        """Refuse layers with the names of those that imgpipe adds; the input is replaced by one."""
        import keras

        kept = (layer for layer in source.layers if not isinstance(layer, keras.layers.InputLayer))
        own = {layer.name for layer in kept}
        numbered = {name for name in own if name.rstrip("0123456789") in names.ADDED_WITH_NUMBER}
        taken = sorted(own & set(names.ADDED) | numbered)
        if taken:
            added = (*names.ADDED, *(f"{name}0" for name in names.ADDED_WITH_NUMBER))
            raise ConfigError(
                f"{self.name}: the names {', '.join(added)} belong to the layers that imgpipe adds "
                "to the network. Rename the layers of the network. Received: "
                f"{', '.join(taken)}"
            )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make the initial weights of layers that are created in the block depend on `seed` only.

    An initializer without a seed draws one from Python's random generator.
    """
    with _BUILDING:
        before = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)


def _built_sha256(network: keras.Model) -> str:
    """Return the SHA-256 (hex) of a network's layers and weights, which its code may have read.

    Names end in numbers that count the layers of the process, so that these are left out.
    """
    digest = hashlib.sha256(re.sub(r'_\d+"', '"', network.to_json()).encode())
    for array in network.get_weights():
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def file_sha256(path: Path, expected: str = "") -> str:
    """Return the SHA-256 (hex) of a file, computed again only when its time or size has changed.

    It raises a ResourceError if the file cannot be read, or is not the expected one; "" accepts
    any.
    """
    try:
        state = path.stat()
        received = _hash(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise ResourceError(
            f"model.weights: cannot read {path}: {error.strerror or error}. Expected: a file of "
            "weights (.weights.h5, .h5 or .keras)"
        ) from error
    if expected and received != expected.lower():
        raise ResourceError(
            f"model.weights: {path} is not the expected file. Expected SHA-256 {expected}. "
            f"Received: {received}. Get the file again, or correct model.weights_sha256"
        )
    return received


@functools.lru_cache(maxsize=64)
def _hash(path: Path, changed: int, size: int) -> str:
    return regular_files.sha256(path, _MOST_BYTES)  # the others are part of the cache's key
