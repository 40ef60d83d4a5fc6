"""ImageEvaluator stores the answers of the served signature and, beside them, of the last version.

The component runs with exported models, a published version and Beam's local runner.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imgpipe.components.common import artifacts, kept_model
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.manifest import ANSWERS_FOLDER
from imgpipe.components.image_evaluator import image_evaluator, prediction
from imgpipe.components.image_evaluator.decision import BASELINE_FILE, DECISION_FILE
from imgpipe.components.image_evaluator.prediction import AskedModel
from imgpipe.components.model_pusher import versions
from imgpipe.components.serving_validator import Samples, validate
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.export.saved_model import CAM, export, write_digest
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.settings.given import Facts, of_component
from imgpipe.models.settings.running import EvaluateSettings, RunSettings
from imgpipe.models.settings.settings import Settings
from imgpipe.serving.server.runtime import Runtime
from tests import image_tables
from tests.images import encoded, soft
from tests.models.banks import write_examples
from tests.network_settings import network_settings

# TFX and TensorFlow warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_CODE = "this code"
_VOCABULARY = ("a", "b", "c")
_BEFORE = ("c", "d", "a")  # classes of the version
_IMAGES = {split: [encoded(soft(10 * k + i)) for i in range(3)] for k, split in enumerate("tve")}


def _hash(split: str, i: int) -> str:
    return f"{split}{i}".encode().hex().ljust(64, "0")


def _artifact(kind: Any, uri: Path) -> Any:
    made = kind()
    made.uri = str(uri)
    return made


def _export(folder: Path, seed: int) -> Path:
    """Export a model whose weights depend on the seed as a Model artifact; return its folder."""
    from tfx.utils import path_utils

    keras.utils.set_random_seed(seed)
    settings = network_settings(backbone="conv_4", weights="none", image_size=16)
    classifier = build_classifier(None, _VOCABULARY, settings)
    export(classifier, path_utils.serving_model_dir(str(folder)))
    write_digest(classifier, path_utils.serving_model_dir(str(folder)), source=_CODE)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images and their table, and with two exported models."""
    folder = tmp_path_factory.mktemp("exported")
    rows = []
    table = []
    for split, images in zip(names.SPLITS, _IMAGES.values(), strict=True):
        for i, image in enumerate(images):
            row = image_tables.row(f"{split}/{i}.png", _VOCABULARY[i], i, split, _hash(split, i))
            table.append(row)
            values = {names.IMAGE_BYTES: image, names.SPLIT: split}
            values |= {names.LABEL: row.label, names.LABEL_INDEX: i}
            rows.append((split, values | {names.IMAGE_HASH: row.image_hash}))
    write_examples(folder / "images", rows)
    image_tables.write(folder / "table", table)
    _export(folder / "model", 1)
    _export(folder / "earlier", 2)
    return folder


@pytest.fixture
def made(exported: Path, tmp_path: Path) -> Path:
    """Return a copy of `exported`, which a test may change."""
    return shutil.copytree(exported, tmp_path / "made")


def _publish(made: Path, model: str = "earlier", answers: Path | None = None) -> manifest.Version:
    """Publish a model with a list of the images that it knows, and with its answers."""
    beside = {} if answers is None else {f"{manifest.PROVENANCE}/{ANSWERS_FOLDER}": answers}
    return versions.publish(
        made / "out" / "model",
        {"": made / model / "Format-Serving", **beside},
        {"vocabulary": _BEFORE},
        texts={f"{manifest.PROVENANCE}/{manifest.KNOWN_IMAGES}": ""},
    )


def _evaluate(
    made: Path,
    out: Path,
    version: manifest.Version | None = None,
    code: str = _CODE,
    infra: Path | None = None,
    kept: bool = False,
    threshold: float = 0.9,
) -> Path:
    """Run the component, with or without the answers that were kept; return its outputs' folder."""
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions
    from tfx.types import standard_artifacts as kinds

    settings = Settings(
        run=RunSettings(out=str(made / "out")), evaluate=EvaluateSettings(threshold=threshold)
    )
    facts = Facts(
        vocabulary=_VOCABULARY,
        code=code,
        baseline_version=version.number if version else 0,
        baseline_digest=version.digest if version else "",
        no_baseline="" if version else "there is none",
    )
    answers = settings.places.answers
    if not kept:
        shutil.rmtree(answers, ignore_errors=True)
    image_evaluator.ImageEvaluator.EXECUTOR_SPEC.executor_class._FUNCTION(
        examples=_artifact(kinds.Examples, made / "images"),
        model=_artifact(kinds.Model, made / "model"),
        quarantine=_artifact(artifacts.Quarantine, made / "table"),
        predictions=_artifact(kinds.Examples, out / "predictions"),
        evaluation=_artifact(kinds.ModelEvaluation, out / "evaluation"),
        blessing=_artifact(kinds.ModelBlessing, out / "blessing"),
        infra_blessing=_artifact(kinds.InfraBlessing, infra) if infra else None,
        settings=of_component("ImageEvaluator", settings, facts),
        beam_pipeline=Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])),
    )
    return out


def _answers(model: Path, images: list[bytes]) -> np.ndarray:
    runtime = Runtime(model / "Format-Serving")
    try:
        return np.asarray(runtime.answer(image_bytes=images)[names.PROBABILITIES])
    finally:
        runtime.close()


def _stored(
    out: Path, kind: str = names.PROBABILITIES, split: str = names.VALIDATION
) -> np.ndarray:
    """Return the stored probabilities of a split, [n, C], in the order of the images."""
    found = {
        records.text(example, names.IMAGE_HASH): records.floats(example, kind)
        for example in records.iterate(f"{out}/predictions", split)
    }
    return np.array([found[key] for key in sorted(found)])


def _of_version(out: Path) -> np.ndarray:
    return _stored(out, names.BASELINE_PROBABILITIES)


def _break(model: Path) -> None:
    """Make a model that cannot be loaded, and has the same digest."""
    (model / "saved_model.pb").write_bytes(b"")


def _decision(out: Path) -> dict[str, Any]:
    decision = dict(records.read_json(f"{out}/blessing/{DECISION_FILE}"))
    assert artifacts.is_blessed(f"{out}/blessing") == decision["blessed"]
    return decision


def test_the_answers_of_both_models_are_stored(made: Path, tmp_path: Path):
    out = _evaluate(made, tmp_path / "out", _publish(made))
    assert not [*records.iterate(f"{out}/predictions", names.TRAIN)]
    for split, images in zip(names.SPLITS[1:], list(_IMAGES.values())[1:], strict=True):
        # The classes a and c are the third and first of the version, which does not know b.
        c, _, a = _answers(made / "earlier", images).T
        before = np.stack([a, np.zeros(len(images)), c], axis=1) / (a + c)[:, None]
        expected = _answers(made / "model", images)
        np.testing.assert_allclose(_stored(out, split=split), expected, atol=1e-6)
        stored = _stored(out, names.BASELINE_PROBABILITIES, split)
        np.testing.assert_allclose(stored, before, atol=1e-6)
    state = records.read_json(f"{out}/blessing/{BASELINE_FILE}")
    assert (state["version"], state["compared"], state["columns"]) == (1, True, [2, -1, 0])


def test_learned_images_have_the_answers_of_a_network_without_them(made: Path, tmp_path: Path):
    learned, served = np.float32([[0.5, 0.3, 0.2]]), _answers(made / "model", _IMAGES["v"])
    hashes = np.array([_hash(names.VALIDATION, 1).encode()])
    answers = OutOfFold(hashes, np.array([1]), learned, hashes)
    for name in ("model", "earlier"):
        answers.write(str(made / name / "Format-Serving"))
    out = _evaluate(made, tmp_path / "out", _publish(made))
    np.testing.assert_allclose(_stored(out), [served[0], learned[0], served[2]], atol=1e-6)
    expected = [0.2 / 0.7, 0, 0.5 / 0.7]  # of its classes a and c
    np.testing.assert_allclose(_of_version(out)[1], expected, atol=1e-6)


def test_another_threshold_asks_no_model_again_and_decides_as_without_kept_answers(
    made: Path, tmp_path: Path
):
    version = _publish(made)
    first = _evaluate(made, tmp_path / "first", version, kept=True)
    published = _publish(made, answers=first / "predictions")
    again = _evaluate(made, tmp_path / "again", version, threshold=0.01)
    _break(made / "model" / "Format-Serving")
    loaded = _evaluate(made, tmp_path / "loaded", version, kept=True, threshold=0.01)
    assert _decision(loaded) == _decision(again) and _decision(first) != _decision(again)
    for split in names.SPLITS[1:]:
        np.testing.assert_array_equal(_stored(loaded, split=split), _stored(again, split=split))
    with pytest.raises(Exception, match="saved_model"):
        _evaluate(made, tmp_path / "unkept", published, threshold=0.01)


def test_kept_answers_of_other_code_or_another_model_are_not_used(made: Path, tmp_path: Path):
    kept = str(made / "out" / "answers")
    _evaluate(made, tmp_path / "first", kept=True)
    directory = made / "model" / "Format-Serving"
    [folder] = Path(kept).iterdir()
    assert prediction.kept_answers(kept, str(directory), _CODE) == str(folder)
    assert prediction.kept_answers(kept, str(directory), "other") != str(folder)
    other = str(made / "earlier" / "Format-Serving")
    assert prediction.kept_answers(kept, other, _CODE) != str(folder)
    (directory / manifest.MODEL_DIGEST).unlink()
    assert prediction.kept_answers(kept, str(directory), _CODE) == ""


def test_damaged_kept_answers_are_made_again(made: Path, tmp_path: Path):
    kept = str(made / "out" / "answers")
    first = _evaluate(made, tmp_path / "first", kept=True)
    [folder] = Path(kept).iterdir()
    (file,) = records.shard_files(str(folder), names.VALIDATION)
    whole = Path(file).read_bytes()
    Path(file).write_bytes(whole[:-2])
    again = _evaluate(made, tmp_path / "again", kept=True)
    np.testing.assert_array_equal(_stored(again), _stored(first))
    assert Path(file).read_bytes() == whole


def _answering(made: Path, answers: dict[int, list[float]]) -> manifest.Version:
    """Publish a version with stored answers to images of validation, by their numbers."""
    rows = [
        {names.IMAGE_HASH: _hash(names.VALIDATION, i), names.PROBABILITIES: row}
        for i, row in answers.items()
    ]
    write_examples(made / "stored", [(names.VALIDATION, row) for row in rows])
    return _publish(made, answers=made / "stored")


def test_the_version_is_asked_only_where_it_has_no_stored_answer(made: Path, tmp_path: Path):
    version = _answering(made, {1: [0.5, 0.3, 0.2]})
    expected = _of_version(_evaluate(made, tmp_path / "other", version, code="other code"))
    found = _of_version(_evaluate(made, tmp_path / "known", version))
    np.testing.assert_allclose(found[1], [0.2 / 0.7, 0, 0.5 / 0.7], atol=1e-6)
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], atol=1e-6)
    assert abs(found[1] - expected[1]).max() > 0.001, "answers of other code are not used"
    stored = version.folder / manifest.PROVENANCE / ANSWERS_FOLDER
    (file,) = records.shard_files(str(stored), names.VALIDATION)
    Path(file).write_bytes(Path(file).read_bytes()[:-2])
    damaged = _of_version(_evaluate(made, tmp_path / "damaged", version))
    np.testing.assert_array_equal(damaged, expected)


def test_a_version_that_has_answered_for_all_images_is_not_loaded(made: Path, tmp_path: Path):
    for file in records.shard_files(f"{made}/images", names.TEST):
        Path(file).write_bytes(b"")
    _break(made / "earlier" / "Format-Serving")
    version = _answering(made, {i: [0.5, 0.3, 0.2] for i in range(3)})
    out = _evaluate(made, tmp_path / "known", version)
    np.testing.assert_allclose(_of_version(out)[2], [0.2 / 0.7, 0, 0.5 / 0.7], atol=1e-6)


def test_a_version_that_equals_the_candidate_is_not_loaded_separately(made: Path):
    own = AskedModel(str(made / "model" / "Format-Serving"), "kept")
    same, other = (_publish(made, model) for model in ("model", "earlier"))
    assert prediction.version_model(str(same.folder), own, _CODE) is own
    assert prediction.version_model(str(other.folder), own, _CODE).directory == str(other.folder)


@pytest.mark.parametrize("damage", ["removed", "changed", "other"])
def test_a_version_that_is_gone_ends_the_run(made: Path, tmp_path: Path, damage: str):
    version = _publish(made)
    if damage == "removed":
        shutil.rmtree(version.folder)
    elif damage == "changed":
        _break(version.folder)
    else:  # of the same number
        described = json.loads((version.folder / manifest.MANIFEST).read_text())
        described["files"] = {}
        (version.folder / manifest.MANIFEST).write_text(json.dumps(described))
    with pytest.raises(ResourceError, match=r"version 1 in .* was the last blessed .* Run again"):
        _evaluate(made, tmp_path / "out", version)


def test_a_version_with_other_classes_or_without_a_list_of_images_is_not_compared(
    made: Path, tmp_path: Path
):
    other = versions.publish(
        made / "out" / "model",
        {"": made / "earlier" / "Format-Serving"},
        {"vocabulary": ["x", "y"]},
    )
    unlisted = versions.publish(
        made / "out" / "model", {"": made / "earlier" / "Format-Serving"}, {"vocabulary": _BEFORE}
    )
    for version, why in ((other, "has other classes"), (unlisted, "does not say on which images")):
        out = _evaluate(made, tmp_path / f"{version.number}", version)
        state = records.read_json(f"{out}/blessing/{BASELINE_FILE}")
        assert (state["version"], state["compared"]) == (version.number, False)
        assert f"version {version.number} {why}" in state["why"]
        assert not _of_version(out).size


def test_the_validated_session_is_reused_in_the_same_process(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
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
            out = _evaluate(made, tmp_path / "out")
            cams = kept_model.runtime(str(directory)).answer(CAM, image_bytes=images)
        with pytest.raises(AssertionError, match="loaded again"):
            kept_model.runtime(str(directory))
    expected_cams = Runtime(directory).answer(CAM, image_bytes=images)
    np.testing.assert_allclose(cams[CAM], expected_cams[CAM], atol=1e-5)
    np.testing.assert_allclose(_stored(out), expected, atol=1e-6)


def test_a_refused_model_that_cannot_be_loaded_has_no_predictions(made: Path, tmp_path: Path):
    _break(made / "model" / "Format-Serving")
    artifacts.mark(f"{tmp_path}/refused", artifacts.INFRA_NOT_BLESSED)
    checks = [{"name": "loads", "passed": False, "detail": "it does not"}]
    records.write_json(f"{tmp_path}/refused/{artifacts.VALIDATION}", checks)
    artifacts.mark(f"{tmp_path}/blessed", artifacts.INFRA_BLESSED)
    kept = str(made / "out" / "answers")
    out = _evaluate(made, tmp_path / "out", infra=tmp_path / "refused", kept=True)
    assert not any(any(records.iterate(f"{out}/predictions", split)) for split in names.SPLITS)
    assert "serving" in _decision(out)["failed"] and not Path(kept).exists()
    with pytest.raises(Exception, match="saved_model"):
        _evaluate(made, tmp_path / "again", infra=tmp_path / "blessed")
