"""Tests that ServingValidator refuses an export that can be loaded but does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.case import Case


def test_an_export_that_loads_but_does_not_answer_fails_the_serving_check(tmp_path: Path):
    """A Keras 3 model saved with `tf.saved_model.save` is AVAILABLE, but every request fails."""
    import keras
    import tensorflow as tf

    from imgpipe.components.serving_validator import Samples, validate

    module = tf.Module()
    module.model = keras.Sequential([keras.Input((192,)), keras.layers.Dense(2)])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def pixels(one: tf.Tensor) -> tf.Tensor:
            image = tf.io.decode_image(one, 3, expand_animations=False)
            return tf.cast(tf.reshape(image, [192]), tf.float32)

        decoded = tf.map_fn(pixels, image_bytes, fn_output_signature=tf.TensorSpec([192]))
        return {"probabilities": module.model(decoded)}

    image = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy()
    expected = serve(tf.constant([image]))["probabilities"].numpy()
    tf.saved_model.save(module, str(tmp_path / "export"), signatures={"serving_default": serve})
    checks = validate(str(tmp_path / "export"), Samples([image], expected))
    assert [check["passed"] for check in checks] == [True, False]
    assert checks[1]["name"] == "answers as the trained model"
    assert "Could not find variable" in checks[1]["detail"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_whose_export_does_not_answer_is_refused_by_the_serving_check(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The serving check refuses the run, and the Predictor does not end it with an error."""
    from imgpipe.models.export import saved_model

    whole = saved_model.export

    def damaged(classifier: Any, directory: str, **given: Any) -> None:
        whole(classifier, directory, **given)
        (Path(directory) / "saved_model.pb").write_bytes(b"")

    monkeypatch.setattr(saved_model, "export", damaged)  # TFX imports the module of run_fn anew
    outcome = Case(case.photos, tmp_path / "out").run()
    assert outcome.exit_code == 3
    assert "no validation image was evaluated" in outcome.verdict
    assert "the serving check 'loads in the session loader" in outcome.verdict
    assert outcome.summary["push"]["status"] == "refused"
    assert not (tmp_path / "out" / "model").exists()
