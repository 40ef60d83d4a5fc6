"""Replays the corpus: every input that fuzzing kept is read, or refused with a message."""

import random

import pytest

from tests.fuzz.mutation import LARGEST, mutate
from tests.fuzz.targets import CORPUS, TARGETS

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Pillow, zipfile and Keras warn about broken files
    pytest.mark.timeout(120),
]


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_answered(name, tmp_path):
    answers = [TARGETS[name].answer(data, tmp_path) for data in TARGETS[name].inputs()]
    good = len(TARGETS[name].valid())
    assert good, "there is no valid file"
    assert all(answer.startswith("read:") for answer in answers[:good]), answers[:good]
    assert len(answers) > good, f"the corpus of {name} is empty; run `make fuzz`"


def test_every_target_has_a_corpus_and_no_other_does():
    folders = {folder.name for folder in CORPUS.iterdir()}
    assert folders == set(TARGETS)


def test_mutations_are_deterministic_for_a_seed_and_bounded_in_size():
    first = [mutate(b"content" * 9, b"other", random.Random(7)) for _ in range(3)]
    assert first[0] == first[1] == first[2] != b"content" * 9
    assert len(mutate(bytes(LARGEST * 2), b"", random.Random(1))) <= LARGEST
