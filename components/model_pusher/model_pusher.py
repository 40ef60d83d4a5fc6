"""ModelPusher: publishes blessed models atomically, and never the same model twice.

TFX's Pusher copies into the numbered directory, where a polling server can find an incomplete
model, and pushes an unchanged model again under a new number.
"""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import (
    Examples,
    ExampleStatistics,
    InfraBlessing,
    Model,
    ModelBlessing,
    PushedModel,
    Schema,
)
from tfx.utils import io_utils, path_utils

from imgpipe.components.common import artifacts
from imgpipe.components.common.artifacts import Quarantine
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.manifest import ANSWERS_FOLDER
from imgpipe.components.image_evaluator.decision import DECISION_FILE
from imgpipe.components.model_pusher.versions import PUSH_FILE, Candidate, Push, push
from imgpipe.models.files import json_object
from imgpipe.models.files.regular_files import local_path
from imgpipe.models.settings.given import Given


@component
def ModelPusher(
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: OutputArtifact[PushedModel],
    settings: Parameter[str],
    statistics: InputArtifact[ExampleStatistics] = None,
    schema: InputArtifact[Schema] = None,
    images: InputArtifact[Quarantine] = None,
    predictions: InputArtifact[Examples] = None,
) -> None:
    """Publish the model if all gates blessed it and it is not published already.

    It takes the place of TFX's Pusher in any pipeline: it has the same inputs, and the artifact has
    the custom properties of Pusher (pushed, pushed_destination, pushed_version).

    Args:
        model: Exported model of ImageTrainer.
        model_blessing: Blessing of ImageEvaluator or of TFX's Evaluator.
        infra_blessing: Blessing of ServingValidator or of TFX's InfraValidator.
        pushed_model: Output: `push.json` with status, version and path, and, unless a gate
            refused it, a copy of the SavedModel, as TFX's Pusher makes it for the components after
            it.
        settings: What it reads; see `imgpipe.models.settings.given`.
        statistics: Statistics of the data, stored beside the model for DataGate.
        schema: Schema that the data was validated against, stored beside the model.
        images: Quarantine of ImageFilter, whose table lists the kept images for ImageEvaluator.
        predictions: Predictions of the model, stored beside it, so that ImageEvaluator need not ask
            it again when it is the last version.

    Raises:
        ConfigError: The model or the directory is in a bucket.
        ResourceError: The directory cannot be written, or the model is not the one that was
            validated.
    """
    local_path(model.uri, "ModelPusher")
    given = Given.read(settings)
    validated = f"{infra_blessing.uri}/{artifacts.VALIDATED}"  # TFX's InfraValidator writes none
    decision = f"{model_blessing.uri}/{DECISION_FILE}"  # TFX's Evaluator writes none
    exported = path_utils.serving_model_path(model.uri)
    beside = {"statistics": statistics, "schema": schema, ANSWERS_FOLDER: predictions}
    candidate = Candidate(
        Path(exported),
        {**_facts(given), **_network_facts(exported)},
        {name: Path(artifact.uri) for name, artifact in beside.items() if artifact is not None},
        validated=records.read_json(validated) if fileio.exists(validated) else None,
        decision=records.read_json(decision) if fileio.exists(decision) else None,
        images=images.uri if images else "",
    )
    gates = {
        "model": artifacts.is_blessed(model_blessing.uri),
        "serving": artifacts.is_blessed(infra_blessing.uri, artifacts.INFRA_BLESSED),
    }
    versions = local_path(str(given.settings.places.versions), "ModelPusher")
    outcome = push(versions, candidate, gates, given.settings.push.keep)
    if outcome["status"] != "refused":
        io_utils.copy_dir(exported, pushed_model.uri)
    _record(pushed_model, outcome)


def _record(pushed_model: Artifact, outcome: Push) -> None:
    """Write the outcome, also as the custom properties that TFX's Pusher sets."""
    records.write_json(f"{pushed_model.uri}/{PUSH_FILE}", outcome)
    for name in ("status", "path"):
        pushed_model.set_string_custom_property(name, outcome[name] or "")
    pushed_model.set_int_custom_property("pushed", int(outcome["status"] != "refused"))
    pushed_model.set_string_custom_property("pushed_destination", outcome["path"] or "")
    pushed_model.set_string_custom_property("pushed_version", outcome["version"] or "")


def _facts(given: Given) -> dict[str, object]:
    """Return what the manifest says about the run.

    With `run_key` and `baseline_version`, the model is only published while that version is still
    the one to compare with.
    """
    settings, facts = given
    return {
        "name": settings.run.name,
        "vocabulary": list(facts.vocabulary),
        "fingerprint": facts.fingerprint,
        "backbone": settings.model.network,
        "image_size": settings.size,
        "run_key": facts.run_key,
        "threshold": settings.evaluate.threshold,
        "baseline_version": facts.baseline_version,
    }


def _network_facts(exported: str) -> dict[str, int | str]:
    """Return what decides the features of the model's head.

    They are the size of its images, the kind of features, and the SHA-256 of the axes of their
    covariances; nothing for a model that imgpipe has not exported.
    """
    digest = json_object.read_or_empty(Path(exported) / manifest.MODEL_DIGEST)
    names = ("image_size", "features", "covariance_axes")
    return {name: digest[name] for name in names if name in digest}
