"""Networks of KerasHub as networks of feature maps.

A vision transformer answers with a sequence of tokens [N, T, C]: a class token, registers or other
tokens of no place, and one token for each patch. Here the patches become the feature map [N, h, w,
C], and the class token a map of one position. Each block is a layer of its own, between whose
tokens lies the map of its patches: heads can read it, Grad-CAM can show it, and the layers above a
block can be trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

MAP: Final = "patches"  # layer with the last feature map of a transformer
CLASS_TOKEN: Final = "class_token"  # layer with the class token, [N, 1, 1, C]

#: A block takes tokens [N, T, C] and the map of their patches [N, h, w, C], and returns tokens.
Block = Callable[["KerasTensor", "KerasTensor"], "KerasTensor"]


class TokenNetwork(NamedTuple):
    """A transformer in parts."""

    start: KerasTensor  # tokens below the first block, [N, T, C]
    others: int  # number of tokens before those of the patches
    blocks: Sequence[Block]
    end: Callable[[KerasTensor], KerasTensor]  # from the tokens of the last block to its answer
    #: From all tokens to a vector [N, C] in the place of the class token; None if it is the first.
    summary: Callable[[KerasTensor], KerasTensor] | None = None
    #: Whether the first token is a class token.
    class_token: bool = True


def outputs(network: keras.Model, pixels: KerasTensor) -> list[KerasTensor]:
    """Build the layers of a network of KerasHub on normalised pixels.

    Args:
        network: Backbone of KerasHub, with weights. It must not be used afterwards, because its
            layers belong to the new network, and have other names.
        pixels: Symbolic normalised pixels, [N, S, S, 3], of the size for which it was built.

    Returns:
        The feature map [N, h, w, C], and after it the class token [N, 1, 1, C] if there is one.
    """
    kind = type(network).__name__
    if kind in _TRANSFORMERS:
        patch = network.patch_size
        side = pixels.shape[1] // (patch[0] if isinstance(patch, list | tuple) else patch)
        return _maps(_TRANSFORMERS[kind](network, pixels), side)
    if kind in _PYRAMIDS:
        return [_PYRAMIDS[kind](network, pixels)]
    return [network.call(pixels)]  # its layers one by one; calling it would make it one layer


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


def _maps(parts: TokenNetwork, side: int) -> list[KerasTensor]:
    """Join the parts of a transformer, with the map of the patches between its blocks."""
    from keras import layers

    x = parts.start
    others = parts.others
    below = "embedding"
    for number, block in enumerate(parts.blocks):
        x, patches = _through_map(x, side, others, below)
        below = f"block{number}"
        x = block(x, patches)
    x = parts.end(x)
    channels = x.shape[-1]
    patches = layers.Cropping1D((others, 0), name="patch_tokens")(x) if others else x
    maps = [layers.Reshape((side, side, channels), name=MAP)(patches)]
    if parts.summary is not None:
        maps.append(layers.Reshape((1, 1, channels), name=CLASS_TOKEN)(parts.summary(x)))
    elif parts.class_token:
        first = layers.Cropping1D((0, side * side + others - 1), name="first_token")(x)
        maps.append(layers.Reshape((1, 1, channels), name=CLASS_TOKEN)(first))
    return maps


def _through_map(
    x: KerasTensor, side: int, others: int, below: str
) -> tuple[KerasTensor, KerasTensor]:
    """Return the same tokens by way of the map of their patches, and this map."""
    from keras import layers

    channels = x.shape[-1]
    patches = layers.Cropping1D((others, 0), name=f"{below}_patches")(x) if others else x
    patches = layers.Reshape((side, side, channels), name=f"{below}_map")(patches)
    tokens = layers.Reshape((side * side, channels), name=f"{below}_tokens")(patches)
    if others:
        rest = layers.Cropping1D((0, side * side), name=f"{below}_others")(x)
        tokens = layers.Concatenate(axis=1, name=f"{below}_joined")([rest, tokens])
    return tokens, patches


def _block(layer: Any, number: int) -> Block:
    """Return a layer that is a block, under the name by which it can be cut."""
    layer.name = f"block{number}"
    return lambda tokens, patches: layer(tokens)


def _blocks(layers: Sequence[Any]) -> list[Block]:
    return [_block(layer, number) for number, layer in enumerate(layers)]


def _dinov2(network: Any, pixels: KerasTensor) -> TokenNetwork:
    start = network.embeddings(pixels)
    blocks = _blocks(network.encoder.layers)
    return TokenNetwork(start, 1 + network.num_register_tokens, blocks, network.layernorm)


def _dinov3(network: Any, pixels: KerasTensor) -> TokenNetwork:
    rotary = network.rope_embedding
    others = 1 + network.num_register_tokens

    def block(layer: Any, number: int) -> Block:
        layer.name = f"block{number}"
        # Of the map of patches instead of the pixels, which would bypass every cut. Only the number
        # of rows and columns matters.
        config = {**rotary.get_config(), "patch_size": 1, "name": f"block{number}_angles"}
        angles = type(rotary).from_config(config)

        def call(tokens: KerasTensor, patches: KerasTensor) -> KerasTensor:
            embeddings = angles(patches)
            return layer(tokens, position_embeddings=embeddings, num_prefix_tokens=others)

        return call

    blocks = [block(layer, number) for number, layer in enumerate(network.encoder.layers)]
    return TokenNetwork(network.embeddings(pixels), others, blocks, network.layernorm)


def _vit(network: Any, pixels: KerasTensor) -> TokenNetwork:
    start = network.get_layer("vit_patching_and_embedding")(pixels)
    encoder = network.get_layer("vit_encoder")
    blocks = _blocks(encoder.encoder_layers)
    first = bool(network.use_class_token)
    return TokenNetwork(start, int(first), blocks, encoder.layer_norm, class_token=first)


def _deit(network: Any, pixels: KerasTensor) -> TokenNetwork:
    start = network.get_layer("deit_patching_and_embedding")(pixels)
    encoder = network.get_layer("deit_encoder")

    def block(layer: Any, number: int) -> Block:
        layer.name = f"block{number}"
        # Without the scores, the block returns None beside its tokens, which Keras refuses.
        return lambda tokens, patches: layer(tokens, return_attention_scores=True)[0]

    blocks = [block(layer, number) for number, layer in enumerate(encoder.encoder_layers)]
    return TokenNetwork(start, 2, blocks, encoder.layer_norm)  # the second one is for distillation


def _siglip(network: Any, pixels: KerasTensor) -> TokenNetwork:
    # In KerasHub 0.32 the layer claims to return one token more than it does.
    shape = (None, network.embedding.num_positions, network.hidden_dim)
    network.embedding.compute_output_shape = lambda input_shape: shape
    start = network.embedding(pixels)
    blocks = _blocks(network.encoder_layers)
    # Its head is a block of attention with one query, whose answer is what texts are compared with.
    return TokenNetwork(start, 0, blocks, network.post_layer_norm, network.head)


def _clip(network: Any, pixels: KerasTensor) -> TokenNetwork:
    start = network.pre_layer_norm(network.embedding(pixels))
    return TokenNetwork(start, 1, _blocks(network.encoder_layers), network.layer_norm)


def _metaclip(network: Any, pixels: KerasTensor) -> TokenNetwork:
    start = network.pre_layer_norm(network.embedding(pixels))
    # The last normalisation belongs to the comparison with texts, and a head scales its features.
    return TokenNetwork(start, 1, _blocks(network.encoder_layers), lambda tokens: tokens)


def _swin(network: Any, pixels: KerasTensor) -> KerasTensor:
    """Return the feature map of a Swin transformer, with the maps between its stages."""
    from keras import layers

    x = network.patch_embedding(pixels)
    last = len(network.stages) - 1
    for number, stage in enumerate(network.stages):
        stage.name = f"block{number}"
        x = stage(x)
        side = round(x.shape[1] ** 0.5)
        if number < last:
            x = layers.Reshape((side, side, x.shape[-1]), name=f"block{number}_map")(x)
            x = layers.Reshape((side * side, x.shape[-1]), name=f"block{number}_tokens")(x)
    x = network.norm(x)
    return layers.Reshape((side, side, x.shape[-1]), name=MAP)(x)


def _hgnet(network: Any, pixels: KerasTensor) -> KerasTensor:
    x = network.embedder_layer(pixels)
    for number, stage in enumerate(network.encoder_layer.stages_list):
        stage.name = f"block{number}"
        x = stage(x)
    return x


_TRANSFORMERS: Final[dict[str, Callable[[Any, Any], TokenNetwork]]] = {
    "DINOV2Backbone": _dinov2,
    "DINOV3Backbone": _dinov3,
    "ViTBackbone": _vit,
    "DeiTBackbone": _deit,
    "SigLIPVisionEncoder": _siglip,
    "CLIPVisionEncoder": _clip,
    "MetaCLIP2VisionEncoder": _metaclip,
}
_PYRAMIDS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "SwinTransformerBackbone": _swin,
    "HGNetV2Backbone": _hgnet,
}
