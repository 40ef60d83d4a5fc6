"""Fixtures of the tests of `models/`: images of noise, and a bank of their features."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from tests.models import noise_data


@pytest.fixture(scope="session")
def noise_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_data.write_images(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="session")
def noise_bank(noise_images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return noise_data.write_features(noise_images, tmp_path_factory.mktemp("bank"))
