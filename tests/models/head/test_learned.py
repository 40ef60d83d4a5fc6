"""What weights have learned from, by their content, and that none of it judges them."""

import numpy as np
import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.models.head import learned
from imgpipe.models.head.learned import Learned
from imgpipe.models.names import LEARNED_FILE


def _names(*texts: str) -> np.ndarray:
    return np.array(texts, np.bytes_)


FIRST = Learned.of(_names("a", "b"), _names("film", "b"))
SECOND = Learned.of(_names("c"), _names("c"))
WEIGHTS = np.arange(6.0).reshape(2, 3)


def test_an_image_is_known_by_itself_or_by_its_family() -> None:
    seen = FIRST.knows(_names("a", "z", "y", "x"), _names("other", "film", "b", ""))
    assert seen.tolist() == [True, True, True, False]
    nothing = Learned.joined([])
    assert not nothing.knows(_names("a", ""), _names("film", "")).any()


def test_what_judges_has_not_taught() -> None:
    FIRST.require_unseen(_names("c"), _names("c"), "the head of a fold")
    with pytest.raises(
        RuntimeError,
        match=r"^the head of a fold: 1 of the 2 images that judge, or others of their families, "
        r".* This is a defect of imgpipe$",
    ):
        FIRST.require_unseen(_names("c", "d"), _names("c", "film"), "the head of a fold")


def test_weights_are_known_wherever_they_were_copied() -> None:
    learned.forget()
    learned.note([WEIGHTS, np.zeros(3)], FIRST)
    learned.note([WEIGHTS + 1], SECOND)
    assert learned.of_weights([WEIGHTS.copy()]).images.tolist() == [b"a", b"b", b"film"]
    both = learned.of_weights([WEIGHTS, WEIGHTS + 1])
    assert both.images.tolist() == [b"a", b"b", b"c", b"film"]
    assert not len(learned.of_weights([np.zeros(3), np.ones(1)]).images), "zeros tell nothing"
    assert not len(learned.of_weights([WEIGHTS.reshape(3, 2)]).images)
    learned.forget()
    assert not len(learned.of_weights([WEIGHTS]).images)


def test_it_is_kept_beside_a_model(tmp_path) -> None:
    assert Learned.read(str(tmp_path)) is None
    FIRST.write(str(tmp_path))
    stored = Learned.read(str(tmp_path))
    assert stored is not None and stored.images.tolist() == FIRST.images.tolist()
    (tmp_path / LEARNED_FILE).write_bytes(b"PK damaged")
    with pytest.raises(ResourceError, match=r"learned\.npz is damaged .* from which the model has"):
        Learned.read(str(tmp_path))
