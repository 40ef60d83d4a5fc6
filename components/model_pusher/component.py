"""ModelPusher: publishes blessed models atomically, and never the same model twice.

TFX's Pusher copies into the numbered directory, where a polling server can find an incomplete
model, and pushes an unchanged model again under a new number.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import (
    ExampleStatistics,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    ModelRun,
    PushedModel,
    Schema,
)
from tfx.utils import io_utils, path_utils

from imgpipe.components import blessings
from imgpipe.components.artifacts import BLESSED_LITE, LiteModels
from imgpipe.components.cross_validator.outcome import deciding_folds
from imgpipe.components.model_pusher import model_card, versions
from imgpipe.components.report import facts as facts_of_run
from imgpipe.components.storage import manifest, records
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.local_path import local_path
from imgpipe.models.training.model_run import HISTORY_FILE

PUSH = "push.json"


@component
def ModelPusher(
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: OutputArtifact[PushedModel],
    push_directory: Parameter[str] = "",
    push_destination: Parameter[pusher_pb2.PushDestination] = None,
    keep: Parameter[int] = 5,
    facts: Parameter[str] = "{}",
    statistics: InputArtifact[ExampleStatistics] = None,
    schema: InputArtifact[Schema] = None,
    cross_validation: InputArtifact[ModelBlessing] = None,
    lite: InputArtifact[LiteModels] = None,
    evaluation: InputArtifact[ModelEvaluation] = None,
    model_run: InputArtifact[ModelRun] = None,
) -> None:
    """Publish the model if all gates blessed it and it is not published already.

    It takes the place of TFX's Pusher in any pipeline: the same inputs and `push_destination`, and
    the artifact has the custom properties of Pusher (pushed, pushed_destination, pushed_version).

    Args:
        model: Exported model of ImageTrainer.
        model_blessing: Blessing of ImageEvaluator or of TFX's Evaluator.
        infra_blessing: Blessing of ServingValidator or of TFX's InfraValidator.
        pushed_model: Output: ``push.json`` with status, version and path, and, unless a gate
            refused it, a copy of the SavedModel, as TFX's Pusher makes it for the components after
            it.
        push_directory: Base path of the published versions.
        push_destination: The same as TFX's Pusher takes it; exactly one of the two is given.
        keep: Number of versions to keep.
        facts: JSON object with further fields of the manifest, such as run key and vocabulary.
        statistics: Statistics of the data, stored beside the model for Baseline.
        schema: Schema that the data was validated against, stored beside the model for Baseline.
        cross_validation: Blessing of CrossValidator, if the run has one.
        lite: Files of LiteExporter, if the run has one; only the blessed files are published.
        evaluation: Evaluation of the model, for the figures in the model card.
        model_run: ModelRun of ImageTrainer, which says for the model card what calibrated the
            model.

    Raises:
        ConfigError: Not exactly one of push_directory and push_destination is given, or the model
            is in a bucket.
        ResourceError: The directory cannot be written, or the model is not the one that was
            validated.
    """
    local_path(model.uri, "ModelPusher")
    validated = f"{infra_blessing.uri}/{blessings.VALIDATED}"  # TFX's InfraValidator writes none
    exported = path_utils.serving_model_path(model.uri)
    beside = {"statistics": statistics, "schema": schema}
    outcome = push(
        destination(push_directory, push_destination),
        Path(exported),
        {name: Path(given.uri) for name, given in beside.items() if given is not None},
        _gates(model_blessing, infra_blessing, cross_validation),
        {**json.loads(facts), **_image_size(exported)},
        keep,
        Path(lite.uri) / BLESSED_LITE if lite is not None else None,
        records.read_json(validated) if fileio.exists(validated) else None,
        facts_of_run.evaluation(evaluation.uri)["candidate"] if evaluation is not None else None,
        deciding_folds(cross_validation.uri) if cross_validation is not None else None,
        model_run is not None and _by_search(model_run.uri),
    )
    if outcome["status"] != "refused":
        io_utils.copy_dir(exported, pushed_model.uri)
    _record(pushed_model, outcome)


def _gates(model: Artifact, serving: Artifact, folds: Artifact | None) -> dict[str, bool]:
    """Return whether each gate blessed the model, by name of the gate."""
    gates = {
        "model": blessings.is_blessed(model.uri),
        "serving": blessings.is_blessed(serving.uri, blessings.INFRA_BLESSED),
    }
    if folds is not None:
        gates["cross_validation"] = blessings.is_blessed(folds.uri)
    return gates


def _record(pushed_model: Artifact, outcome: Mapping[str, Any]) -> None:
    """Write the outcome, also as the custom properties that TFX's Pusher sets."""
    records.write_json(f"{pushed_model.uri}/{PUSH}", outcome)
    for name in ("status", "path"):
        pushed_model.set_string_custom_property(name, outcome[name] or "")
    pushed_model.set_int_custom_property("pushed", int(outcome["status"] != "refused"))
    pushed_model.set_string_custom_property("pushed_destination", outcome["path"] or "")
    pushed_model.set_string_custom_property("pushed_version", outcome["version"] or "")


def _image_size(exported: str) -> dict[str, int]:
    """Return the size of the images that the exported model says; nothing if it says none."""
    path = Path(exported) / manifest.MODEL_DIGEST
    if not path.is_file():
        return {}
    size = json.loads(path.read_text("utf-8")).get("image_size")
    return {} if size is None else {"image_size": size}


def _by_search(model_run: str) -> bool:
    """Return whether the folds of the search for a network chose the model and calibrated it."""
    history = records.read_json(f"{model_run}/{HISTORY_FILE}")
    return (history.get("calibration") or {}).get("chosen_on") == "folds"


def destination(push_directory: str, push_destination: pusher_pb2.PushDestination | None) -> Path:
    """Return the base path of the published versions, TFX's base directory of a destination.

    Raises:
        ConfigError: Not exactly one of the two is given, or it is not a local folder.
    """
    named = push_destination.filesystem.base_directory if push_destination is not None else ""
    if bool(push_directory) == bool(named):
        raise ConfigError(
            "ModelPusher: expected either push_directory, or push_destination with "
            f"filesystem.base_directory. Received: push_directory={push_directory!r}, "
            f"push_destination={str(push_destination or '').strip()!r}"
        )
    return local_path(push_directory or named, "ModelPusher")


def push(
    base: Path,
    model: Path,
    provenance: dict[str, Path],
    gates: dict[str, bool],
    facts: dict[str, Any],
    keep: int,
    lite: Path | None = None,
    validated: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Mapping[str, float] | None = None,
    folds: Mapping[str, Any] | None = None,
    by_search: bool = False,
) -> dict[str, Any]:
    """Publish a model unless a gate refused it or it is the newest version already.

    Args:
        base: Base path of the published versions.
        model: SavedModel directory.
        provenance: Folders to store beside the model, by name.
        gates: Whether each gate blessed the model, by name of the gate.
        facts: Further fields of the manifest.
        keep: Number of versions to keep.
        lite: Folder of blessed LiteRT files to publish beside the SavedModel. It need not exist.
        validated: Files of the validated model, as `manifest.describe` returns them. None skips the
            comparison.
        metrics: Metrics of the validation split for the model card.
        folds: Result of the folds for the model card, where they decided.
        by_search: Whether the folds of the search chose and calibrated the model.

    Returns:
        ``{"status": "pushed"|"unchanged"|"refused", "version", "path", "refused_by"}``. A model
        that a rollback withdrew is refused by "rollback".

    Raises:
        ResourceError: The directory cannot be written, or the model is not the one that was
            validated. Nothing was changed.
    """
    refused = [name for name, passed in gates.items() if not passed]
    files = manifest.describe(model)
    if validated is not None:
        _require_validated(model, files, validated)
    sources = {"": model}
    if lite is not None and lite.is_dir():
        files |= manifest.describe(lite)  # other LiteRT files make another version
        sources["."] = lite  # merged into the version directory, beside the SavedModel's files
    identity = manifest.identity(files)
    model_identity = manifest.model_identity(files)
    current: manifest.Version | None = None

    def decide(newest: manifest.Version | None) -> dict[str, Any] | None:
        """Return the models that rollbacks withdrew, None for a model that is not published."""
        nonlocal current
        current = newest  # other runs may publish at any other time
        withdrawn = manifest.withdrawn(base)
        if _is_withdrawn(identity, model_identity, set(withdrawn), newest):
            refused.append("rollback")
        known = refused or _is_published(base, newest, identity)
        return None if known else {"withdrawn": withdrawn}

    if refused:
        decide(manifest.latest(base))
        return _refused(refused)
    sources |= {f"{manifest.PROVENANCE}/{name}": path for name, path in provenance.items()}
    published = versions.publish(
        base,
        sources,
        facts,
        keep,
        decide,
        expected=validated,
        texts={manifest.CARD: model_card.model_card(facts, metrics or {}, folds, by_search)},
    )
    if refused:
        return _refused(refused)
    current = published or current
    return {
        "status": "pushed" if published else "unchanged",
        "version": str(current.number) if current else None,
        "path": str(current.path) if current else None,
        "refused_by": [],
    }


def _refused(by: list[str]) -> dict[str, Any]:
    return {"status": "refused", "version": None, "path": None, "refused_by": by}


def _is_published(base: Path, newest: manifest.Version | None, identity: str) -> bool:
    """Whether the newest intact version is this model and no damaged one has a higher number.

    TensorFlow Serving loads the highest number, even if that version is damaged.
    """
    highest = max(manifest.version_numbers(base), default=0)
    return newest is not None and newest.identity == identity and newest.number == highest


def _require_validated(
    model: Path, files: Mapping[str, Any], validated: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise an error unless the files of the model are those that were validated."""
    other = sorted(n for n in {*files, *validated} if files.get(n) != validated.get(n))
    if other:
        raise versions.changed_files_error(model, other)


def _is_withdrawn(
    identity: str, model: str, withdrawn: set[str], newest: manifest.Version | None
) -> bool:
    """Whether a rollback withdrew this version, or its model with any LiteRT files."""
    served = newest.model_identity if newest else ""
    return identity in withdrawn or (model in withdrawn and served != model)
