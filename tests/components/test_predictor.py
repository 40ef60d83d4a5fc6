"""Predictor stores the answers of the served signature and, beside them, those of the baseline."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgpipe.components import predictor
from imgpipe.components.common import artifacts, kept_model
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.image_evaluator.settings import ANSWERS_FOLDER
from imgpipe.components.serving_validator import Samples, validate
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.export.saved_model import CAM, export, write_digest
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.names import OUT_OF_FOLD_FILE
from imgpipe.models.network.classifier import build_classifier
from imgpipe.serving.server.runtime import Runtime
from tests.images import encoded, soft
from tests.models.banks import write_examples
from tests.network_settings import network_settings

# TFX and TensorFlow warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_VOCABULARY = ["a", "b", "c"]
_IMAGES = {split: [encoded(soft(10 * k + i)) for i in range(3)] for k, split in enumerate("tve")}


def _artifact(kind: str, uri: Path) -> Any:
    from tfx.types import standard_artifacts

    made = getattr(standard_artifacts, kind)()
    made.uri = str(uri)
    return made


def _export(folder: Path, seed: int) -> Path:
    """Export a model whose weights depend on the seed as a Model artifact; return its folder."""
    from tfx.utils import path_utils

    keras.utils.set_random_seed(seed)
    settings = network_settings(backbone="conv_4", weights="none", image_size=16)
    classifier = build_classifier(None, _VOCABULARY, settings)
    export(classifier, path_utils.serving_model_dir(str(folder)))
    write_digest(classifier, path_utils.serving_model_dir(str(folder)))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictor")
    rows = []
    for split, images in zip(names.SPLITS, _IMAGES.values(), strict=True):
        for i, image in enumerate(images):
            values = {names.IMAGE_BYTES: image, names.SPLIT: split}
            values |= {names.LABEL: _VOCABULARY[i], names.LABEL_INDEX: i}
            rows.append((split, values | {names.IMAGE_HASH: f"{i}.png of {split}"}))
    write_examples(folder / "images", rows)
    _export(folder / "model", 1)
    _export(folder / "earlier", 2)
    (folder / "empty").mkdir()
    records.write_json(f"{folder}/earlier/baseline.json", {"columns": [1, -1, 0]})
    return folder


def _predict(made: Path, out: Path, model: str, baseline: str, **given: Any) -> Path:
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

    predictor.Predictor.EXECUTOR_SPEC.executor_class._FUNCTION(
        examples=_artifact("Examples", made / "images"),
        model=_artifact("Model", made / model),
        predictions=_artifact("Examples", out),
        baseline_model=_artifact("Model", made / baseline),
        beam_pipeline=Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])),
        **given,
    )
    return out


@pytest.fixture(scope="module")
def predicted(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _predict(made, tmp_path_factory.mktemp("predicted"), "model", "earlier")


def _answers(model: Path, images: list[bytes]) -> np.ndarray:
    runtime = Runtime(model / "Format-Serving")
    try:
        return np.asarray(runtime.answer(image_bytes=images)[names.PROBABILITIES])
    finally:
        runtime.close()


def _name(example: Any) -> str:
    return records.text(example, names.IMAGE_HASH).partition(" of ")[0]


def test_the_answers_of_both_models_are_stored(made, predicted):
    assert not [*records.iterate(str(predicted), names.TRAIN)]
    for split, images in zip(names.SPLITS[1:], list(_IMAGES.values())[1:], strict=True):
        stored = records.iterate(str(predicted), split)
        found = sorted(stored, key=_name)
        # The classes a and c are the second and first of the baseline, which does not know b.
        b, a, _ = _answers(made / "earlier", images).T
        before = np.stack([a, np.zeros(len(images)), b], axis=1) / (a + b)[:, None]
        for kind, expected in (
            (names.PROBABILITIES, _answers(made / "model", images)),
            (names.BASELINE_PROBABILITIES, before),
        ):
            answers = np.array([records.floats(example, kind) for example in found])
            np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_learned_images_have_the_answers_of_a_network_without_them(made, tmp_path):
    learned, served = np.float32([[0.5, 0.3, 0.2]]), _answers(made / "model", _IMAGES["v"])
    hashes = np.array([b"1.png of validation"])
    answers = OutOfFold(hashes, np.array([0]), learned, hashes)
    copies = shutil.copytree(made, tmp_path / "copies")
    for name in ("model", "earlier"):
        answers.write(str(copies / name / "Format-Serving"))
    out = _predict(copies, tmp_path / "out", "model", "earlier")
    found = {_name(example): example for example in records.iterate(str(out), names.VALIDATION)}
    for path, expected in (("0.png", served[0]), ("1.png", learned[0]), ("2.png", served[2])):
        stored = records.floats(found[path], names.PROBABILITIES)
        np.testing.assert_allclose(stored, expected, atol=1e-6)
    before = records.floats(found["1.png"], names.BASELINE_PROBABILITIES)
    np.testing.assert_allclose(before, [0.375, 0, 0.625], atol=1e-6)  # of its classes c and a
    (copies / "earlier" / "Format-Serving" / OUT_OF_FOLD_FILE).write_bytes(b"PK damaged")
    with pytest.raises(ResourceError, match=r"out_of_fold.npz is damaged .* --from Baseline"):
        _predict(copies, tmp_path / "again", "model", "earlier")


def _with_answers(made: Path, folder: Path, answers: dict[str, list[float]]) -> Path:
    """Return a copy of `made` whose baseline comes with answers for images of validation."""
    copies = shutil.copytree(made, folder)
    digest = copies / "earlier" / "Format-Serving" / manifest.MODEL_DIGEST
    digest.write_text(json.dumps({**json.loads(digest.read_text()), "source": "this code"}))
    rows = [
        {names.IMAGE_HASH: f"{path} of validation", names.PROBABILITIES: row}
        for path, row in answers.items()
    ]
    uri = copies / "earlier" / ANSWERS_FOLDER
    write_examples(uri, [(names.VALIDATION, row) for row in rows])
    return copies


def _of_baseline(out: Path) -> dict[str, list[float]]:
    found = records.iterate(str(out), names.VALIDATION)
    kind = names.BASELINE_PROBABILITIES
    return {_name(example): records.floats(example, kind) for example in found}


def test_the_baseline_is_asked_only_where_it_has_no_stored_answer(made, predicted, tmp_path):
    expected = _of_baseline(predicted)
    copies = _with_answers(made, tmp_path / "copies", {"1.png": [0.5, 0.3, 0.2]})
    found = _of_baseline(_predict(copies, tmp_path / "known", "model", "earlier", code="this code"))
    assert found.pop("1.png") == pytest.approx([0.375, 0, 0.625])  # of its classes c and a
    assert found == {path: row for path, row in expected.items() if path != "1.png"}


def test_a_baseline_that_has_answered_for_all_images_is_not_loaded(made, tmp_path):
    answers = {f"{i}.png": [0.5, 0.3, 0.2] for i in range(3)}
    copies = _with_answers(made, tmp_path / "copies", answers)
    for file in records.shard_files(f"{copies}/images", names.TEST):
        Path(file).write_bytes(b"")
    (copies / "earlier" / "Format-Serving" / "saved_model.pb").write_bytes(b"")
    found = _predict(copies, tmp_path / "known", "model", "earlier", code="this code")
    assert _of_baseline(found)["2.png"] == pytest.approx([0.375, 0, 0.625])


def test_stored_answers_of_other_code_or_in_a_damaged_file_are_not_used(made, predicted, tmp_path):
    expected = _of_baseline(predicted)
    copies = _with_answers(made, tmp_path / "copies", {"1.png": [0.5, 0.3, 0.2]})
    other = _predict(copies, tmp_path / "other", "model", "earlier", code="other code")
    assert _of_baseline(other) == expected
    (file,) = records.shard_files(f"{copies}/earlier/{ANSWERS_FOLDER}", names.VALIDATION)
    Path(file).write_bytes(Path(file).read_bytes()[:-2])
    damaged = _predict(copies, tmp_path / "damaged", "model", "earlier", code="this code")
    assert _of_baseline(damaged) == expected


def test_a_baseline_that_equals_the_candidate_is_not_loaded_separately(made, tmp_path):
    shutil.copytree(made / "model", tmp_path / "copy")
    own = str(made / "model" / "Format-Serving")
    assert predictor.baseline_model_of(own, str(tmp_path / "copy")) == own
    assert predictor.baseline_model_of(own, str(made / "earlier")) != own


def test_the_validated_session_is_reused_in_the_same_process(made, tmp_path, monkeypatch):
    directory = made / "model" / "Format-Serving"
    images = _IMAGES["v"]
    expected = _answers(made / "model", images)
    wrap = kept_model.keep(manifest.describe(directory))
    assert all(
        check["passed"] for check in validate(str(directory), Samples(images, expected), wrap)
    )

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded again")

    with monkeypatch.context() as patch:
        patch.setattr(kept_model, "Runtime", refuse)
        with pytest.raises(AssertionError, match="loaded again"):
            kept_model.runtime(str(made / "earlier" / "Format-Serving"))
        with kept_model.dropped_at_end():
            out = _predict(made, tmp_path / "out", "model", "empty")
            cams = kept_model.runtime(str(directory)).answer(CAM, image_bytes=images)
        with pytest.raises(AssertionError, match="loaded again"):
            kept_model.runtime(str(directory))
    expected_cams = Runtime(directory).answer(CAM, image_bytes=images)
    np.testing.assert_allclose(cams[CAM], expected_cams[CAM], atol=1e-5)
    found = sorted(records.iterate(str(out), names.VALIDATION), key=_name)
    stored = np.array([records.floats(example, names.PROBABILITIES) for example in found])
    np.testing.assert_allclose(stored, expected, atol=1e-6)


def test_a_refused_model_that_cannot_be_loaded_has_no_predictions(made, tmp_path):
    broken = made / "broken"
    shutil.copytree(made / "model", broken)
    (broken / "Format-Serving" / "saved_model.pb").write_bytes(b"")
    artifacts.mark(f"{tmp_path}/refused", artifacts.INFRA_NOT_BLESSED)
    artifacts.mark(f"{tmp_path}/blessed", artifacts.INFRA_BLESSED)
    refused = _artifact("InfraBlessing", tmp_path / "refused")
    out = _predict(made, tmp_path / "out", "broken", "empty", infra_blessing=refused)
    assert not any(any(records.iterate(str(out), split)) for split in names.SPLITS)
    with pytest.raises(Exception, match="saved_model"):
        blessed = _artifact("InfraBlessing", tmp_path / "blessed")
        _predict(made, tmp_path / "again", "broken", "empty", infra_blessing=blessed)
