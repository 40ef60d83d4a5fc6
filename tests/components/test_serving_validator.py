"""ServingValidator: what is served and what is refused; a lack of time or memory is no result."""

from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.components import serving_validator as component
from imgpipe.components.serving_validator import Samples
from imgpipe.models.errors import ResourceError
from imgpipe.serving.client import DeadlineExceeded, ResourceExhausted, ServingError, Unavailable
from tests.images import encoded, noise

_REFUSED = "the serving check could not be finished"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a SavedModel that answers with the colour of the first pixel."""

    def colour(data: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        return tf.cast(tf.reshape(image, [-1, 3])[0], tf.float32) / 255

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        classes = tf.tile([["red", "green", "blue"]], [tf.size(image_bytes), 1])
        rows = tf.map_fn(colour, image_bytes, fn_output_signature=tf.TensorSpec([3]))
        return {"classes": classes, "probabilities": rows}

    folder = tmp_path_factory.mktemp("classifier")
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})
    return str(folder)


@pytest.mark.parametrize(
    ("content", "count"),
    [
        pytest.param(encoded(noise(), "PNG") + bytes(4_500_000), 16, id="many bytes"),
        pytest.param(encoded(Image.new("L", (8000, 7000)), "PNG"), 1, id="many pixels"),
    ],
)
def test_images_that_training_accepts_exceed_no_limit_of_the_check(classifier, content, count):
    first = tf.io.decode_image(content, channels=3)[0, 0].numpy() / 255
    checks = component.validate(classifier, Samples([content] * count, np.float32([first] * count)))
    assert [check["detail"] for check in checks if not check["passed"]] == []
    assert len(checks) == 6


@pytest.mark.parametrize(
    ("answered", "refused"),
    [((0.82, 0.18, 0.0), False), ((0.2, 0.8, 0.0), True), ((np.nan, 0.2, 0.0), True)],
)
def test_a_head_that_was_judged_on_other_features_is_refused(classifier, answered, refused):
    image = encoded(Image.new("RGB", (8, 8), (204, 51, 0)), "PNG")
    trained = np.float32([[0.8, 0.2, 0.0]] * 4)
    stored = np.float32([answered] * 4)
    checks = component.validate(classifier, Samples([image] * 4, trained, stored))
    last = checks[-1]
    assert last["passed"] is not refused
    if refused:
        assert last["name"] == "answers as on the stored features"
        assert "on 4 images that it has learned from, its log probabilities" in last["detail"]
        assert last["detail"].endswith("and run again with --from FeatureBank")


def test_a_model_that_loads_too_slowly_ends_the_run(classifier, monkeypatch):
    monkeypatch.setattr(component, "LOAD_SECONDS", 0.0)
    with pytest.raises(ResourceError, match=rf"{_REFUSED} .* is not available after 0 s"):
        component.validate(classifier, Samples([], np.empty((0, 3), np.float32)))


def test_a_lack_of_memory_in_loading_ends_the_run(classifier):
    def lacking(runtime: Any) -> Any:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    with pytest.raises(ResourceError, match=rf"{_REFUSED} .*OOM when allocating tensor"):
        component.validate(classifier, Samples([], np.empty((0, 3), np.float32)), lacking)


@pytest.mark.parametrize(
    ("answers", "raised"),
    [
        *((0, raised) for raised in (DeadlineExceeded, ResourceExhausted, Unavailable)),
        *((answers, ServingError) for answers in (0, 1)),
        (1, Unavailable),
    ],
)
def test_a_busy_server_ends_the_run_and_a_defect_does_not(classifier, monkeypatch, answers, raised):
    """The first request is answered or not, and the second one is no image."""
    expected = np.zeros((1, 3), np.float32)
    given = iter([SimpleNamespace(outputs={"probabilities": expected})] * answers)

    def predict(*_: Any, **__: Any) -> Any:
        if (answer := next(given, None)) is None:
            raise raised("late")
        return answer

    monkeypatch.setattr(component.Client, "predict", predict)
    monkeypatch.setattr(component, "_one_by_one", lambda *_: "")
    if raised is ServingError:
        checks = component.validate(classifier, Samples([b"image"], expected))
        assert [check["passed"] for check in checks][-1] is False
    else:
        with pytest.raises(ResourceError, match=f"{_REFUSED} .*late"):
            component.validate(classifier, Samples([b"image"], expected))


def test_an_export_that_loads_but_does_not_answer_fails_the_serving_check(tmp_path):
    """A Keras 3 model saved with `tf.saved_model.save` is AVAILABLE, but every request fails."""
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
    checks = component.validate(str(tmp_path / "export"), Samples([image], expected))
    assert [check["passed"] for check in checks] == [True, False]
    assert checks[1]["name"] == "answers as the trained model"
    assert "Could not find variable" in checks[1]["detail"]
