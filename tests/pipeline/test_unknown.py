"""The answer "unknown" of `model.unknown_rate`: in predict, in evaluate and in exported files."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import imgpipe
from imgpipe.models.errors import ConfigError
from tests.command import answered, ran
from tests.images import class_folders, encoded, noise
from tests.pipeline import small_version

_BELOW = 0.9995  # which no image reaches in a network of random weights


@pytest.fixture(scope="module")
def unsure(tmp_path_factory) -> Path:
    """Return an output folder whose version answers "unknown" to every image."""
    folder = tmp_path_factory.mktemp("unsure")
    small_version.push(folder, unknown_below=_BELOW)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Return a folder with two images of a class and three of none."""
    return class_folders(
        tmp_path / "new",
        {
            "rock": [Image.fromarray(noise(seed)) for seed in (1, 2)],
            "unknown": [Image.fromarray(noise(seed)) for seed in (3, 4, 5)],
        },
    )


def test_predict_gives_unknown_no_probability_and_hides_no_class(unsure, photos):
    words = ("predict", "--model", unsure, photos / "rock")
    answers = answered(*words)
    for answer in answers:
        assert (answer["label"], answer["probability"]) == ("unknown", None)
        assert {entry["label"] for entry in answer["top"]} == set(small_version.CLASSES)
    first, _, counts = ran(*words).stdout.splitlines()
    shown = first.split("unknown  ")[1]
    assert all(name in shown for name in small_version.CLASSES)
    assert not shown[0].isdigit() and counts == "2 images: unknown 2"
    assert ",unknown,,1," in ran(*words, "--csv", "-").stdout
    certain = answered(*words, "--least-certain-first")
    highest = [answer["top"][0]["probability"] for answer in certain]
    assert highest == sorted(highest)


def test_the_most_probable_class_is_judged_as_in_a_run(unsure, photos):
    found = imgpipe.evaluate(unsure, photos).result
    assert found["classes"] == list(small_version.CLASSES)
    assert found["metrics"]["evaluation"]["count"] == 2
    assert found["evaluation"]["answered_unknown"] == 2
    assert found["evaluation"]["unknown_labels"] == {"unknown": 3}
    assert "(model.unknown_rate). As in a run, the most" in found["findings"][1]["sentence"]
    shutil.rmtree(photos / "rock")
    with pytest.raises(ConfigError, match=r"no label is a class of the model.*Received: unknown"):
        imgpipe.evaluate(unsure, photos)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "keras", "tflite"])
def test_an_exported_file_names_the_rule_that_its_reader_has_to_apply(unsure, tmp_path, kind):
    file = tmp_path / f"model.{kind}"
    said = ran("export", kind, unsure, "--to", file).stdout
    assert f"answers unknown where no probability reaches {_BELOW:g} (model.unknown_rate)" in said
    if kind == "onnx":
        import onnx

        metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert json.loads(metadata["unknown_below"]) == pytest.approx(_BELOW)
    elif kind == "keras":
        with zipfile.ZipFile(file) as archive:
            found = json.loads(archive.read("config.json"))
        assert found["unknown_below"] == pytest.approx(_BELOW)


def test_an_image_of_the_client_has_no_probability_for_unknown(unsure):
    with imgpipe.load(unsure) as model:
        [answer] = model.predict(encoded(noise(6)))
    assert (answer.label, answer.probability) == ("unknown", None)
    assert len(answer.top) == len(small_version.CLASSES)
