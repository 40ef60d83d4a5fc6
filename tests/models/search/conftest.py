"""Fixtures of the tests of folds and of the search for a network."""

from collections.abc import Callable

import pytest

from imgpipe.models.training.stages import Inputs
from tests.models import noise_data


@pytest.fixture(scope="module")
def grouped(noise_images, write_records, tmp_path_factory) -> Callable[..., Inputs]:
    """Return a function that returns inputs whose bank has groups, by split, number and label."""

    def inputs(group_of: Callable[[str, int, int], bytes], settings=noise_data.SETTINGS) -> Inputs:
        folder = tmp_path_factory.mktemp("grouped")
        bank = noise_data.write_features(noise_images, folder, write_records, group_of)
        return noise_data.inputs(noise_images, bank, settings)

    return inputs
