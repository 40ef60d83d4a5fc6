"""Networks of KerasHub: DINOv2 and DINOv3, SigLIP, CLIP, ViT, Swin and others, by a preset.

`hub:` precedes the name of a preset, its folder or its handle; see `presets`. Layers and weights
are those of KerasHub. This module adds the normalisation that the preset's own image converter
states, and makes feature maps of tokens.

A vision transformer answers with a sequence of tokens [N, T, C]. One rule says which of them are a
map: the last s * s ones, for the largest s, are the patches and become the feature map [N, s, s,
C]. The tokens before them, if there are any, are of no place, and the first of these is the class
token, which becomes a map of one position. Where the network answers with a vector instead, the map
is of the tokens that it was computed from, and the vector is in the place of the class token.

Each block is a layer of its own, between whose tokens lies the map of its patches: heads can read
it, Grad-CAM can show it, and the layers above a block can be trained.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgpipe.models.backbones import layer_graph, presets
from imgpipe.models.backbones.registry import Architecture, BackboneChoice

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

ARCHITECTURES: Final[tuple[Architecture, ...]] = ()

MAP: Final = "patches"  # layer with the last feature map of a transformer
CLASS_TOKEN: Final = "class_token"  # layer with the class token, [N, 1, 1, C]
#: Where KerasHub keeps the blocks of an encoder, which is a layer that calls them in turn.
_BLOCK_LISTS: Final = ("layers", "encoder_layers", "stages_list")


def named(name: str) -> Architecture | None:
    """Return the architecture for a name such as `hub:dinov2_small`; None for other names."""
    if not name.startswith(presets.PREFIX):
        return None
    return Architecture(name, 0, build, weights_by_size=True, preset=presets.preset(name))


def build(choice: BackboneChoice, side: tuple[int, int]) -> keras.Model:
    """Build the network of a preset, with its weights or random ones; see `Architecture`.

    It raises the errors of `presets.Preset.network`.
    """
    import keras

    preset = presets.preset(choice.name)
    network = preset.network(side[0], trained=choice.weights == "imagenet")
    stated = preset.converter()
    scale = np.asarray(1.0 if stated.scale is None else stated.scale, np.float64)
    offset = np.asarray(0.0 if stated.offset is None else stated.offset, np.float64)
    pixels = keras.Input((*side, 3), dtype="float32")
    normalise = keras.layers.Rescaling(
        scale.tolist(), offset.tolist(), dtype="float32", name="normalise"
    )
    return keras.Model(pixels, outputs(network, normalise(pixels)), name="hub")


def outputs(network: keras.Model, pixels: KerasTensor) -> list[KerasTensor]:
    """Build the layers of a network of KerasHub, with their weights, on normalised pixels.

    The pixels are symbolic, [N, S, S, 3], of the size for which the network was built. The network
    must not be used afterwards, because its layers belong to the new one, and have other names.

    Return the feature map [N, h, w, C], and after it the class token [N, 1, 1, C] if there is one.
    """
    import keras

    opened = _called_again(network, _open_encoder)
    # Of the maps of several stages, the last one has the fewest places.
    answer = min(reversed(opened.outputs), key=lambda output: math.prod(output.shape[1:-1]))
    opened = keras.Model(opened.inputs[0], answer)
    divided = _called_again(opened, _with_maps(opened))
    answer = divided.call(pixels)  # its layers one by one; calling it would make it one layer
    return [answer] if len(answer.shape) == 4 else _maps(answer)


def below_last_block(names: Sequence[str]) -> list[str]:
    """Return the layers with the tokens that the last block of a transformer reads.

    Args:
        names: Names of the layers of a network, in its order.

    Returns:
        The layer with the map of the patches, and that with the other tokens if there are any; none
        if it is no transformer.
    """
    maps = [name for name in names if re.fullmatch(r"(embedding|block\d+)_map", name)]
    wanted = (
        [f"{maps[-1].removesuffix('_map')}{end}" for end in ("_map", "_others")] if maps else []
    )
    return [name for name in wanted if name in names]


def _called_again(network: keras.Model, call: Any) -> keras.Model:
    """Return a network of the same layers and weights, whose layers a function calls."""
    import keras

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


def _open_encoder(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a layer; of an encoder, call the blocks one by one."""
    kind = type(layer).__name__
    if kind == "DINOV3RopePositionEmbedding":
        # Only the number of pixels matters. A symbolic tensor would bypass every cut.
        return [np.asarray(angles) for angles in layer(np.zeros((1, *args[0].shape[1:])))]
    if kind == "SigLIPVisionEmbedding":
        # In KerasHub 0.32 the layer claims to return one token more than it does.
        shape = (None, layer.num_positions, layer.hidden_dim)
        layer.compute_output_shape = lambda input_shape: shape
    if not any(isinstance(getattr(layer, name, None), list) for name in _BLOCK_LISTS):
        return layer(*args, **kwargs)
    if "return_attention_scores" in inspect.signature(layer.call).parameters:
        # Without the scores, a block of DeiT returns None beside its tokens, which Keras refuses.
        kwargs["return_attention_scores"] = True
    return layer.call(*args, **kwargs)


def _with_maps(network: keras.Model) -> Any:
    """Return a function that calls layers, and blocks by way of the map of their patches."""
    numbers: dict[int, int] = {}
    order = layer_graph.nodes(network.outputs)
    for node in order:
        if _is_block(node, order):
            node.operation.name = f"block{len(numbers)}"
            numbers[id(node.operation)] = len(numbers)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        number = numbers.get(id(layer))
        if number is None:
            return layer(*args, **kwargs)
        below = f"block{number - 1}" if number else "embedding"
        return layer(_through_map(args[0], below), *args[1:], **kwargs)

    return call


def _is_block(node: layer_graph.GraphNode, order: Sequence[layer_graph.GraphNode]) -> bool:
    """Return whether an operation is a layer of other layers from tokens to tokens."""
    import keras

    layer = node.operation
    if not isinstance(layer, keras.Layer) or not list(layer._flatten_layers(include_self=False)):
        return False
    shapes = [order[node.reads[0]].outputs[0].shape, node.outputs[0].shape]
    return all(len(shape) == 3 for shape in shapes)


def _maps(answer: KerasTensor) -> list[KerasTensor]:
    """Return the feature map and the class token of the last tokens, or of a vector of them."""
    from keras import layers

    order = layer_graph.nodes([answer])
    is_vector = len(answer.shape) == 2
    tokens = order[order[-1].reads[0]].outputs[0] if is_vector else answer
    side, others = _places(tokens)
    channels = tokens.shape[-1]
    patches = layers.Cropping1D((others, 0), name="patch_tokens")(tokens) if others else tokens
    maps = [layers.Reshape((side, side, channels), name=MAP)(patches)]
    if others and not is_vector:
        answer = layers.Cropping1D((0, side * side + others - 1), name="first_token")(tokens)
    if others or is_vector:
        maps.append(layers.Reshape((1, 1, channels), name=CLASS_TOKEN)(answer))
    return maps


def _through_map(x: KerasTensor, below: str) -> KerasTensor:
    """Return the same tokens by way of the map of their patches."""
    from keras import layers

    side, others = _places(x)
    channels = x.shape[-1]
    patches = layers.Cropping1D((others, 0), name=f"{below}_patches")(x) if others else x
    patches = layers.Reshape((side, side, channels), name=f"{below}_map")(patches)
    tokens = layers.Reshape((side * side, channels), name=f"{below}_tokens")(patches)
    if others:
        rest = layers.Cropping1D((0, side * side), name=f"{below}_others")(x)
        tokens = layers.Concatenate(axis=1, name=f"{below}_joined")([rest, tokens])
    return tokens


def _places(tokens: KerasTensor) -> tuple[int, int]:
    """Return the side of the map of tokens [N, T, C], and the number of tokens before the map."""
    side = math.isqrt(tokens.shape[1])
    return side, tokens.shape[1] - side * side
