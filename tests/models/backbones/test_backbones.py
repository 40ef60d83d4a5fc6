"""The table of backbones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from models import backbones
from models.errors import ConfigError


def test_every_backbone_describes_itself() -> None:
    for name in backbones.names():
        backbone = backbones.get(name, weights="none")
        assert backbone.name == name
        assert backbone.image_size > 0
        assert len(backbone.key()) == 64


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"efficientnet_lite0.*Received: 'resnet'"):
        backbones.get("resnet")


def test_asking_for_keys_imports_no_tensorflow() -> None:
    code = (
        "import sys; from models.extractor import FeatureExtractor; "
        "FeatureExtractor(precision='float32').key(1); "
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
