"""Small presets of KerasHub with random weights, written as a person would write them."""

import warnings
from pathlib import Path

import keras

_OTHERS = ("dinov3", "vit", "deit", "siglip", "clip", "metaclip2", "swin", "hgnet", "resnet")
#: Families of which `write` writes a preset, each with the side of its images in pixels.
FAMILIES = {"dinov2": 56} | dict.fromkeys(_OTHERS, 64)
_IMAGENET = {
    "scale": [1 / (255 * deviation) for deviation in (0.229, 0.224, 0.225)],
    "offset": [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
}
_UNIT = {"scale": 1 / 127.5, "offset": -1.0}


def write(family: str, folder: Path) -> Path:
    """Write a preset of a family below a folder, unless it is there, and return its folder."""
    target = folder / family
    if not target.is_dir():
        keras.utils.set_random_seed(3)
        with warnings.catch_warnings():
            # Keras saves weights with a function of NumPy that will change.
            warnings.simplefilter("ignore", DeprecationWarning)
            network, converter = _parts(family)
            network.save_to_preset(str(target))
            converter.save_to_preset(str(target))
    return target


def _parts(family: str):
    from keras_hub import layers, models

    size = {"image_size": (FAMILIES[family],) * 2}
    shape = (64, 64, 3)
    vision = {"patch_size": 16, "hidden_dim": 32, "num_layers": 3, "num_heads": 2}
    vision |= {"intermediate_dim": 64, "image_shape": shape}
    text = {"vocabulary_size": 50, "embedding_dim": 32, "hidden_dim": 32, "num_layers": 1}
    text |= {"num_heads": 2, "intermediate_dim": 64, "max_sequence_length": 8}
    if family == "dinov2":
        # Its weights are for another size, whose position embeddings are interpolated.
        trained = {"image_shape": (112, 112, 3), "position_embedding_shape": (112, 112, 3)}
        network = models.DINOV2Backbone(**(vision | trained | {"patch_size": 14}))
        return network, layers.DINOV2ImageConverter(**size, **_IMAGENET)
    if family == "dinov3":
        return models.DINOV3Backbone(**vision), layers.DINOV3ImageConverter(**size, **_IMAGENET)
    if family == "vit":
        network = models.ViTBackbone(shape, 16, 3, 2, 32, 64)
        return network, layers.ViTImageConverter(**size, **_UNIT)
    if family == "deit":
        network = models.DeiTBackbone(shape, 16, 3, 2, 32, 64)
        return network, layers.DeiTImageConverter(**size, **_UNIT)
    if family == "siglip":
        parts = models.SigLIPVisionEncoder(**vision), models.SigLIPTextEncoder(**text)
        return models.SigLIPBackbone(*parts), layers.SigLIPImageConverter(**size, **_UNIT)
    if family == "clip":
        parts = models.CLIPVisionEncoder(**vision), models.CLIPTextEncoder(**text)
        return models.CLIPBackbone(*parts, 32), layers.CLIPImageConverter(**size, **_IMAGENET)
    if family == "metaclip2":
        parts = models.MetaCLIP2VisionEncoder(**vision), models.MetaCLIP2TextEncoder(**text)
        network = models.MetaCLIP2Backbone(*parts, 32)
        return network, layers.MetaCLIP2ImageConverter(**size, **_IMAGENET)
    if family == "swin":
        network = models.SwinTransformerBackbone(shape, 16, (1, 1), (2, 2), 4)
        return network, layers.SwinTransformerImageConverter(**size, **_IMAGENET)
    if family == "hgnet":
        stages = [(16, 8, 32, 1, 1, 3), (32, 16, 64, 1, 1, 3), (64, 16, 64, 1, 1, 3)]
        network = models.HGNetV2Backbone(
            [1, 1, 1],
            16,
            [32, 64, 64],
            [3, 8, 16],
            "relu",
            False,
            stages,
            [False, True, True],
            [False, False, False],
            image_shape=shape,
        )
        return network, layers.HGNetV2ImageConverter(**size, **_IMAGENET)
    blocks = {"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1]}
    network = models.ResNetBackbone(
        [64], [7], **blocks, stackwise_num_strides=[1, 2], block_type="basic_block"
    )
    return network, layers.ResNetImageConverter(**size, scale=1 / 255)
