"""Networks of the user: a function of the user's own module builds the backbone.

Its name is `module:function`, the notation of web servers for an application. The function
receives the side of the images in pixels and returns a functional Keras model from pixels [N, S, S,
3], 0..255, to a feature map [N, h, w, C]. Pooling and the head are added to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones.registry import Architecture, BackboneChoice
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import source_code

if TYPE_CHECKING:
    import keras

_SETTING: Final = "model.builder"
_NAME: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_IMAGE_SIZE: Final = 224  # side in pixels when model.image_size is not set

ARCHITECTURES: Final[tuple[Architecture, ...]] = ()


def named(name: str) -> Architecture | None:
    """Return the architecture for a name such as `my_module:build`; None for other names."""
    if _NAME.fullmatch(name) is None:
        return None
    return Architecture(
        name,
        _IMAGE_SIZE,
        build,
        imagenet=False,
        code_sha256=lambda: source_code.function_sha256(_SETTING, name),
    )


def build(choice: BackboneChoice, side: tuple[int, int]) -> keras.Model:
    """Call the user's function with the height of the images, and check its result.

    A ConfigError says that there is no such function, that it raises an error, or that it does not
    return a model from pixels to one feature map.
    """
    import keras

    about = f"{_SETTING}: {choice.name}"
    function = source_code.user_function(_SETTING, choice.name)
    try:
        network = function(side[0])
    except Exception as error:
        raise ConfigError(
            f"{about} raised an error for images of {side[0]} pixels "
            f"({type(error).__name__}: {error})"
        ) from error
    if isinstance(network, keras.Sequential) and network.built:
        network = keras.Model(network.inputs, network.outputs, name=network.name)
    functional = isinstance(network, keras.Model) and hasattr(network, "outputs")
    inputs = [tuple(tensor.shape) for tensor in network.inputs] if functional else []
    outputs = [tuple(tensor.shape) for tensor in network.outputs] if functional else []
    if [shape[3:] for shape in inputs] != [(3,)] or [len(shape) for shape in outputs] != [4]:
        received = f"a model from {inputs} to {outputs}" if functional else type(network).__name__
        raise ConfigError(
            f"{about} must return a functional keras.Model with one input, pixels [N, {side[0]}, "
            f"{side[1]}, 3], and one output, the feature map [N, h, w, C] before pooling and the "
            f"last layer, which are added to it. Received: {received}"
        )
    for layer in network.layers:
        kind = type(layer)
        if kind.__module__.startswith("keras.") and kind is not keras.layers.Lambda:
            continue
        try:
            kind.from_config(layer.get_config())  # as for training and the export
        except Exception as error:
            advice = (
                "Let its __init__ accept **kwargs and pass them to super().__init__, and define "
                "get_config if it has other arguments than numbers and texts"
            )
            if kind is keras.layers.Lambda:
                advice = "Use a function of keras.ops, or a class of your own, in its place"
            raise ConfigError(
                f"{about} has a layer {layer.name!r} of class {kind.__name__}, which cannot be "
                f"copied. {advice}. Received: "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            ) from error
    return network
