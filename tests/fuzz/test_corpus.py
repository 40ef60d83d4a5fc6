"""Every input that fuzzing kept is read or refused in words."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutation import LARGEST, mutate
from tests.fuzz.targets import CORPUS, TARGETS

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Pillow's, zipfile's and Keras' about broken files
    pytest.mark.timeout(120),
]


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_is_answered(name, tmp_path):
    answers = [TARGETS[name].answer(data, tmp_path) for data in TARGETS[name].inputs()]
    good = len(list(TARGETS[name].seeds()))
    assert all(answer.startswith("read:") for answer in answers[:good]), answers[:good]
    assert len(answers) > good, f"the corpus of {name} is empty; run `make fuzz`"


def test_the_corpus_belongs_to_targets():
    folders = {folder.name for folder in CORPUS.iterdir()}
    assert folders == set(TARGETS)


def test_damage_is_the_same_for_a_seed_and_bounded():
    first = [mutate(b"content" * 9, b"other", random.Random(7)) for _ in range(3)]
    assert first[0] == first[1] == first[2] != b"content" * 9
    assert len(mutate(bytes(LARGEST * 2), b"", random.Random(1))) <= LARGEST
