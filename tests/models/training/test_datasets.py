"""Tests of training datasets: order of epochs, class balance and augmentation."""

import numpy as np

from imgpipe.models.settings.course import ViewSpec
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import datasets
from tests.network_settings import network_settings

_IMAGES = np.random.default_rng(3).integers(0, 256, (6, 16, 16, 3), np.uint8)


def _vectors(labels: list[int]) -> datasets.Rows:
    """Return features [n, 1] of the given labels; a row's only feature is its index."""
    rows = np.arange(len(labels), dtype=np.float16)[:, None]
    return datasets.Rows(rows, np.array(labels, np.int64))


def _settings(**values: object) -> Settings:
    return network_settings(**{"batch_size": 4, "epochs": 3, **values})


def _read(dataset) -> list[tuple[np.ndarray, ...]]:
    return [tuple(np.asarray(part) for part in batch) for batch in dataset]


def test_each_epoch_has_every_row_once_in_another_order() -> None:
    rows = _vectors([0, 1] * 5)
    batches, again = (_read(datasets.training(rows, 2, _settings())) for _ in "ab")
    for batch, other in zip(batches, again, strict=True):
        np.testing.assert_array_equal(batch[0], other[0])
    assert [len(batch[0]) for batch in batches] == [4, 4, 2] * 3
    epochs = [np.concatenate([b[0] for b in batches[i : i + 3]]).ravel() for i in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(epochs[0], epochs[1])


def test_steps_per_epoch_shorten_an_epoch() -> None:
    rows = _vectors([0, 1] * 5)
    settings = _settings(steps_per_epoch=2)
    assert datasets.steps_per_epoch(rows, settings) == 2
    assert len(_read(datasets.training(rows, 2, settings))) == 6
    assert datasets.steps_per_epoch(rows, _settings(steps_per_epoch=99)) == 3


def test_class_weights_give_all_classes_the_same_total_weight() -> None:
    rows = _vectors([0] * 90 + [2] * 10)
    batches = _read(datasets.training(rows, 3, _settings(balance="class_weights", epochs=1)))
    one_hot, weights = (np.concatenate([batch[i] for batch in batches]) for i in (1, 2))
    by_class = (one_hot * weights[:, None]).sum(0)
    np.testing.assert_allclose(by_class, [50, 0, 50], rtol=1e-5)


def test_validation_keeps_the_order_of_its_rows() -> None:
    ((inputs, one_hot),) = _read(datasets.validation(_vectors([2, 0, 1]), 3))
    assert inputs.ravel().tolist() == [0, 1, 2]
    assert one_hot.argmax(1).tolist() == [2, 0, 1]


def test_images_are_augmented_anew_each_epoch_and_never_in_validation() -> None:
    rows = datasets.Rows(_IMAGES, np.arange(6) % 2, np.arange(6, dtype=np.int64), ViewSpec())
    settings = _settings(batch_size=6)
    first, second, _ = _read(datasets.training(rows, 2, settings))
    assert first[0].shape == (6, 16, 16, 3)
    one = {inputs.tobytes() for inputs in first[0]}
    assert not one & {inputs.tobytes() for inputs in second[0]}
    ((clean, _),) = _read(datasets.validation(rows, 2))
    np.testing.assert_array_equal(clean, _IMAGES.astype(np.float32))
