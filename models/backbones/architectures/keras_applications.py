"""Every network of keras.applications, without its classifier.

Layers and weights are those of Keras (`keras.applications`, which names the paper of each). This
module adds the normalisation that the weights expect, and the size at which they were trained.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from imgpipe.models.backbones.registry import Architecture, BackboneChoice
from imgpipe.models.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    import keras


Normalisation = Literal["tf", "torch", "caffe", "inside"]

_TIMEOUT_S: Final = 60.0  # seconds without an answer after which a download fails
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Factor and offset of the pixels. Caffe's means are in the order blue, green, red.
_SCALES: Final[dict[str, tuple[Any, Any]]] = {
    "tf": (1 / 127.5, -1.0),
    "torch": (
        [1 / (255 * deviation) for deviation in _TORCH_DEVIATION],
        [-mean / deviation for mean, deviation in zip(_TORCH_MEAN, _TORCH_DEVIATION, strict=True)],
    ),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
}

#: Names of most files of weights, and of those of networks whose names begin so.
_FILE: Final = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"
_FILES: Final = {
    "mobilenet_v3": "weights_{}_224_1.0_float_no_top_v2.h5",
    "mobilenet_v2": "{}_weights_tf_dim_ordering_tf_kernels_1.0_{side}_no_top.h5",
    "mobilenet": "mobilenet_1_0_{side}_tf_no_top.h5",
    "nasnet": "{}_no_top.h5",
    **dict.fromkeys(("efficientnet", "convnext"), "{}_notop.h5"),
}
_SIDES: Final = (128, 160, 192, 224)  # for which a MobileNet has weights of its own
_V2_KINDS: Final = ("B0", "B1", "B2", "B3", "S", "M", "L")  # of EfficientNetV2


class Application(NamedTuple):
    """One function of keras.applications."""

    function: str
    image_size: int  # side in pixels of the images with which its weights were trained
    #: "tf" is -1..1, "torch" and "caffe" subtract the mean of ImageNet, and "inside" means that its
    #: own first layers normalise.
    normalisation: Normalisation
    weights_by_size: bool = False  # whether it has other weights for some sizes


APPLICATIONS: Final[dict[str, Application]] = {
    "inception_v3": Application("InceptionV3", 299, "tf"),
    "mobilenet_v2": Application("MobileNetV2", 224, "tf", weights_by_size=True),
    "mobilenet": Application("MobileNet", 224, "tf", weights_by_size=True),
    "mobilenet_v3_small": Application("MobileNetV3Small", 224, "inside"),
    "mobilenet_v3_large": Application("MobileNetV3Large", 224, "inside"),
    "inception_resnet_v2": Application("InceptionResNetV2", 299, "tf"),
    "xception": Application("Xception", 299, "tf"),
    "vgg16": Application("VGG16", 224, "caffe"),
    "vgg19": Application("VGG19", 224, "caffe"),
    **{f"resnet{depth}": Application(f"ResNet{depth}", 224, "caffe") for depth in (50, 101, 152)},
    **{f"resnet{depth}_v2": Application(f"ResNet{depth}V2", 224, "tf") for depth in (50, 101, 152)},
    **{
        f"densenet{depth}": Application(f"DenseNet{depth}", 224, "torch")
        for depth in (121, 169, 201)
    },
    "nasnet_mobile": Application("NASNetMobile", 224, "tf"),
    "nasnet_large": Application("NASNetLarge", 331, "tf"),
    **{
        f"efficientnet_b{number}": Application(f"EfficientNetB{number}", size, "inside")
        for number, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{
        f"efficientnet_v2_{kind.lower()}": Application(f"EfficientNetV2{kind}", size, "inside")
        for kind, size in zip(_V2_KINDS, (224, 240, 260, 300, 384, 480, 480), strict=True)
    },
    **{
        f"convnext_{kind.lower()}": Application(f"ConvNeXt{kind}", 224, "inside")
        for kind in ("Tiny", "Small", "Base", "Large", "XLarge")
    },
}


def weights_file(name: str, image_size: int) -> Path:
    """Return the path in Keras' cache of the ImageNet weights for a side in pixels."""
    sides = (96, *_SIDES) if name == "mobilenet_v2" else _SIDES
    stem = name.replace("efficientnet_v2_", "efficientnetv2-").replace("net_b", "netb")
    stem = re.sub(r"(resnet\d+)_v2", r"\1v2", stem)
    form = next((form for beginning, form in _FILES.items() if name.startswith(beginning)), _FILE)
    file = form.format(stem, side=image_size if image_size in sides else 224)
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if home.exists() and not os.access(home, os.W_OK):  # as Keras does
        home = Path(tempfile.gettempdir()) / ".keras"
    return home / "models" / file


def build(choice: BackboneChoice, side: tuple[int, int]) -> keras.Model:
    """Build the network with ImageNet or random weights; see `Architecture`.

    A ConfigError says that the network does not support images of that size, and a ResourceError
    that its ImageNet weights are not in Keras' cache and cannot be downloaded, or are damaged.
    """
    import keras

    application = APPLICATIONS[choice.name]
    pixels = keras.Input((*side, 3), dtype="float32")
    imagenet = choice.weights == "imagenet"
    file = weights_file(choice.name, side[0])
    was_there = file.is_file()  # Keras removes a file that it cannot replace
    # Keras downloads with `urlretrieve`, which takes no time limit and would wait without end.
    timeout_before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_TIMEOUT_S)
        with warnings.catch_warnings():
            # MobileNet warns about sizes that have no weights of their own. It then uses those of
            # 224 pixels, which is right.
            warnings.filterwarnings("ignore", ".*input_shape.*", UserWarning)
            network = getattr(keras.applications, application.function)(
                include_top=False,
                weights="imagenet" if imagenet else None,
                input_tensor=_normalised(pixels, application.normalisation),
                input_shape=(*side, 3),
            )
    except Exception as error:
        failure = _explained(choice, error, file if imagenet else None, was_there)
        if failure is None:
            raise
        raise failure from error
    finally:
        socket.setdefaulttimeout(timeout_before)
    return keras.Model(pixels, network.outputs[0], name=choice.name)


def _normalised(pixels: keras.KerasTensor, kind: Normalisation) -> keras.KerasTensor:
    """Return normalised pixels, float32 with every dtype policy, to keep their precision."""
    import keras

    if kind == "inside":
        return pixels
    if kind == "caffe":
        pixels = keras.ops.flip(pixels, axis=-1)  # Caffe's order is blue, green, red
    scale, offset = _SCALES[kind]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="normalise")(pixels)


def _explained(
    choice: BackboneChoice, error: Exception, file: Path | None, was_there: bool
) -> Exception | None:
    """Return an error that tells a person what to do; None if the error is a defect.

    `file` has the ImageNet weights, None without any; `was_there` says whether it was there before.
    """
    text = " ".join(str(error).split())
    # Keras' words of weights that do not fit; its other errors of this kind are about the size.
    is_unfit = "mismatch" in text or "corrupted" in text
    is_fetch = "URL fetch failure" in text or isinstance(error, OSError)
    if file is not None and was_there and (is_fetch or is_unfit or isinstance(error, KeyError)):
        return ResourceError(
            f"backbone {choice.name}: {file} is damaged or not the file of these ImageNet weights "
            f"({type(error).__name__}: {text[:200]}). Expected: the file that Keras offers. Delete "
            "it, so that it is downloaded again, or put an intact one in its place"
        )
    if file is not None and (is_fetch or is_unfit):
        advice = f"Put that file into {file.parent}"
        # With weights="imagenet", Keras gives these networks one more Rescaling, without which the
        # same weights from a file answer differently (tensorflow/tensorflow#62193).
        if not choice.name.startswith("efficientnet_b"):
            advice += f', or name it: model.weights = "PATH/{file.name}"'
        return ResourceError(
            f"backbone {choice.name}: its ImageNet weights are not on this machine, and the "
            f"network does not give them ({text[:200]}). Expected: {file.name}. {advice}"
        )
    if isinstance(error, ValueError):
        return ConfigError(f"backbone {choice.name}: {text}")
    return None


ARCHITECTURES: Final = tuple(
    Architecture(
        name,
        application.image_size,
        build,
        weights_by_size=application.weights_by_size,
        downloaded_to=functools.partial(weights_file, name),
    )
    for name, application in APPLICATIONS.items()
)
