"""Datasets without the search for the best parallelism."""

import tensorflow as tf

from imgpipe.models.dataset_tuning import untuned


def test_the_elements_stay_and_no_thread_searches():
    dataset = tf.data.Dataset.range(5).map(lambda number: 2 * number, tf.data.AUTOTUNE)

    found = untuned(dataset)

    assert list(found.as_numpy_iterator()) == [0, 2, 4, 6, 8]
    assert found.options().autotune.enabled is False
