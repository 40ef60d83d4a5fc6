"""ServingValidator: what is served and what is refused; a lack of time or memory is no result."""

import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.components import serving_validator as component
from imgpipe.components.serving_validator import Samples
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.bank import BANK_FILE
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.settings.given import Facts, of_component
from imgpipe.models.trainer import run_fn
from imgpipe.serving.client import DeadlineExceeded, ResourceExhausted, ServingError, Unavailable
from tests.images import encoded, noise
from tests.models.banks import bank_row, write_examples, write_facts, write_records
from tests.network_settings import network_settings

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


SIDE = 96  # of the images that the network receives
READ = {"image_size": SIDE, "features": "average"}
CLASSES = ["a", "b", "c"]


def faint(count: int) -> list[bytes]:
    """Return grey images with so little noise that their features tell nothing."""
    random = np.random.default_rng(0)
    grey = (np.clip(random.normal(128, 2, (64, 64, 3)), 0, 255) for _ in range(count))
    return [encoded(pixels.astype(np.uint8)) for pixels in grey]


def quarter(image: bytes) -> bytes:
    return encoded(Image.open(io.BytesIO(image)).crop((0, 0, 32, 32)))


def checked(folder: Path, seen: list[bytes], reused: int = 0, **stored_by: Any):
    """Train a head on stored features of images, and check the model with other features' bank.

    The bank holds what a network with the settings `stored_by` computes of the images in `seen`,
    in bfloat16. The labels are those of chance. Returns the last check.
    """
    images = faint(len(seen))
    digests = [hashlib.sha256(image).hexdigest() for image in images]
    extractor = FeatureExtractor(network_settings(**READ | stored_by), "bfloat16")
    features = extractor.extract(seen, digests, [[0]] * len(seen))
    labels = np.random.default_rng(1).integers(0, 3, len(images)).tolist()
    splits = [names.VALIDATION if number % 3 == 0 else names.TRAIN for number in range(len(images))]
    stored = zip(splits, digests, labels, features, strict=True)
    rows = [(split, bank_row(digest, label, row[0])) for split, digest, label, row in stored]
    write_facts(write_examples(folder / "bank", rows), list(extractor.sizes), image_size=SIDE)
    about = json.loads((folder / "bank" / BANK_FILE).read_text())
    about |= {"reused": reused, "precision": "bfloat16"}
    (folder / "bank" / BANK_FILE).write_text(json.dumps(about))
    for split in (names.TRAIN, names.VALIDATION):
        here = [number for number, name in enumerate(splits) if name == split]
        of_split = [
            {
                names.IMAGE_BYTES: images[number],
                names.IMAGE_HASH: digests[number].encode(),
                names.LABEL_INDEX: labels[number],
            }
            for number in here
        ]
        write_records(folder / f"{split}-00000-of-00001", of_split)
    text = of_component("ImageTrainer", network_settings(**READ), Facts(vocabulary=CLASSES))
    config = {**json.loads(text), "bank_uri": str(folder / "bank")}
    run_fn(
        SimpleNamespace(
            custom_config=config,
            train_files=[str(folder / "train-*")],
            eval_files=[str(folder / "validation-*")],
            serving_model_dir=str(folder / "model"),
            model_run_dir=str(folder / "run"),
        )
    )
    samples = component.parity_samples(str(folder / "run"))
    assert len(samples.images) == 16
    return component.validate(str(folder / "model"), samples)[-1]


def test_features_with_little_signal_that_are_only_rounded_are_those_of_the_model(tmp_path):
    check = checked(tmp_path, faint(48))
    assert check["passed"], check["detail"]


@pytest.mark.parametrize("reused", [0, 48])
@pytest.mark.parametrize(
    ("seen", "stored_by"),
    [
        pytest.param(faint(48), {"weights": "none"}, id="another network"),
        pytest.param(faint(48), {"image_size": 64}, id="another size"),
        pytest.param([quarter(image) for image in faint(48)], {}, id="a quarter of each image"),
    ],
)
def test_a_head_that_was_judged_on_other_features_is_refused(tmp_path, seen, stored_by, reused):
    check = checked(tmp_path, seen, reused, **stored_by)
    assert (check["name"], check["passed"]) == ("computes the stored features", False)
    assert "on 16 images that it has learned from, the model computes features" in check["detail"]
    assert (
        "from the stored ones by which it was judged; rounding gives less than" in check["detail"]
    )
    is_told = check["detail"].endswith("and run again with --from FeatureBank")
    assert is_told == bool(reused), "a remedy only where an earlier run has stored features"


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
