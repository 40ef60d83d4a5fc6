"""The presets of images that KerasHub publishes, with the licences of their weights.

They are read from the files of the installed package, because KerasHub itself imports TensorFlow.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

_UNKNOWN: Final = "see its page"
#: Licences of the published weights by the folder of KerasHub that lists them, as their publishers
#: state them: in the repository of the network, or of ViT and HGNetV2 on Hugging Face. A preset of
#: another folder is not one of images.
LICENCES: Final[dict[str, str]] = {
    "dinov2": "Apache-2.0",
    "dinov3": "DINOv3 License",
    "vit": "Apache-2.0",
    "deit": "Apache-2.0",
    "siglip": "Apache-2.0",
    "clip": "MIT",
    "metaclip_2": "CC-BY-NC-4.0",
    "swin_transformer": "MIT",
    "mit": "NVIDIA, not commercial",
    "hgnetv2": "Apache-2.0",
    "resnet": _UNKNOWN,
    "densenet": _UNKNOWN,
    "efficientnet": _UNKNOWN,
    "mobilenet": _UNKNOWN,
    "cspnet": _UNKNOWN,
}
#: Published presets with another licence than the others of their folder, by their first word.
_OTHER_LICENCES: Final = {"medsiglip": "Health AI Developer Foundations"}


class PublishedPreset(NamedTuple):
    """A preset that KerasHub publishes under a name."""

    name: str
    handle: str  # from which its files are downloaded
    parameters: int  # of the whole network, which may read texts, too
    licence: str  # of the weights, as the publisher of their family states it


class ListedMetadata(TypedDict):
    """What KerasHub says about a published preset; there is more."""

    params: int


class ListedPreset(TypedDict):
    """A published preset, as KerasHub lists it."""

    kaggle_handle: str
    metadata: ListedMetadata


@functools.cache
def published() -> dict[str, PublishedPreset]:
    """Return the published presets of images by name; none if KerasHub is not installed."""
    spec = importlib.util.find_spec("keras_hub")  # which does not import it
    if spec is None or spec.origin is None:
        return {}
    found = {}
    for family, licence in LICENCES.items():
        file = Path(spec.origin).parent / "src" / "models" / family / f"{family}_presets.py"
        for name, described in _listed(file).items():
            other = _OTHER_LICENCES.get(name.split("_")[0], licence)
            parameters = int(described["metadata"]["params"])
            found[name] = PublishedPreset(name, described["kaggle_handle"], parameters, other)
    return found


def _listed(file: Path) -> dict[str, ListedPreset]:
    """Return the dictionary of presets in a file of KerasHub, which is a constant."""
    for statement in ast.parse(file.read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            listed: dict[str, ListedPreset] = ast.literal_eval(statement.value)
            return listed
    raise RuntimeError(f"expected a dictionary of presets in {file}")
