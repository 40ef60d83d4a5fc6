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

from imgpipe.components.common import blessings
from imgpipe.components.common.storage import known_images, manifest, records
from imgpipe.components.image_evaluator.rules import DECISION
from imgpipe.components.model_pusher import model_card, versions
from imgpipe.models.files.regular_files import local_path

PUSH = "push.json"


@component
def ModelPusher(
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: OutputArtifact[PushedModel],
    push_directory: Parameter[str],
    keep: Parameter[int] = manifest.KEPT_VERSIONS,
    facts: Parameter[str] = "{}",
    statistics: InputArtifact[ExampleStatistics] = None,
    schema: InputArtifact[Schema] = None,
    images: InputArtifact[Examples] = None,
) -> None:
    """Publish the model if all gates blessed it and it is not published already.

    It takes the place of TFX's Pusher in any pipeline: it has the same inputs, and the artifact has
    the custom properties of Pusher (pushed, pushed_destination, pushed_version).

    Args:
        model: Exported model of ImageTrainer.
        model_blessing: Blessing of ImageEvaluator or of TFX's Evaluator.
        infra_blessing: Blessing of ServingValidator or of TFX's InfraValidator.
        pushed_model: Output: ``push.json`` with status, version and path, and, unless a gate
            refused it, a copy of the SavedModel, as TFX's Pusher makes it for the components after
            it.
        push_directory: Base path of the published versions.
        keep: Number of versions to keep.
        facts: JSON object with further fields of the manifest, such as run key and vocabulary. With
            ``run_key`` and ``baseline_version``, the model is only published while that version is
            still the one to compare with.
        statistics: Statistics of the data, stored beside the model for Baseline.
        schema: Schema that the data was validated against, stored beside the model for Baseline.
        images: Examples of the kept images, which are listed beside the model for Baseline.

    Raises:
        ConfigError: The model or the directory is in a bucket.
        ResourceError: The directory cannot be written, or the model is not the one that was
            validated.
    """
    local_path(model.uri, "ModelPusher")
    validated = f"{infra_blessing.uri}/{blessings.VALIDATED}"  # TFX's InfraValidator writes none
    decision = f"{model_blessing.uri}/{DECISION}"  # TFX's Evaluator writes none
    exported = path_utils.serving_model_path(model.uri)
    beside = {"statistics": statistics, "schema": schema}
    outcome = push(
        local_path(push_directory, "ModelPusher"),
        Path(exported),
        {name: Path(given.uri) for name, given in beside.items() if given is not None},
        {
            "model": blessings.is_blessed(model_blessing.uri),
            "serving": blessings.is_blessed(infra_blessing.uri, blessings.INFRA_BLESSED),
        },
        {**json.loads(facts), **_image_size(exported)},
        keep,
        records.read_json(validated) if fileio.exists(validated) else None,
        records.read_json(decision) if fileio.exists(decision) else None,
        images.uri if images else "",
    )
    if outcome["status"] != "refused":
        io_utils.copy_dir(exported, pushed_model.uri)
    _record(pushed_model, outcome)


def _record(pushed_model: Artifact, outcome: Mapping[str, Any]) -> None:
    """Write the outcome, also as the custom properties that TFX's Pusher sets."""
    records.write_json(f"{pushed_model.uri}/{PUSH}", outcome)
    for name in ("status", "path"):
        pushed_model.set_string_custom_property(name, outcome[name] or "")
    pushed_model.set_int_custom_property("pushed", int(outcome["status"] != "refused"))
    pushed_model.set_string_custom_property("pushed_destination", outcome["path"] or "")
    pushed_model.set_string_custom_property("pushed_version", outcome["version"] or "")


def _image_size(exported: str) -> dict[str, int]:
    """Return the size of the model's images; nothing for a model that imgpipe has not exported."""
    path = Path(exported) / manifest.MODEL_DIGEST
    if not path.is_file():
        return {}
    return {"image_size": json.loads(path.read_text("utf-8"))["image_size"]}


def push(
    base: Path,
    model: Path,
    provenance: dict[str, Path],
    gates: dict[str, bool],
    facts: dict[str, Any],
    keep: int,
    validated: Mapping[str, Mapping[str, Any]] | None = None,
    decision: Mapping[str, Any] | None = None,
    images: str = "",
) -> dict[str, Any]:
    """Publish a model unless a gate refused it or it is the newest version already.

    Args:
        base: Base path of the published versions.
        model: SavedModel directory.
        provenance: Folders to store beside the model, by name.
        gates: Whether each gate blessed the model, by name of the gate.
        facts: Further fields of the manifest.
        keep: Number of versions to keep.
        validated: Files of the validated model, as `manifest.describe` returns them. None skips the
            comparison.
        decision: Decision of ImageEvaluator, whose figures the model card gives.
        images: URI of the Examples of the kept images, which are listed beside the model.

    Returns:
        ``{"status": "pushed"|"unchanged"|"refused", "version", "path", "refused_by"}``. A model
        that a rollback withdrew is refused by "rollback", and one that was compared with another
        version than the one to compare with now by "other_version".

    Raises:
        ResourceError: The directory cannot be written, or the model is not the one that was
            validated. Nothing was changed.
    """
    refused = [name for name, passed in gates.items() if not passed]
    files = manifest.describe(model)
    if validated is not None and files != validated:
        raise versions.changed_files_error(model, files, validated)
    identity = manifest.identity(files)
    current: manifest.PublishedVersion | None = None

    def decide(newest: manifest.PublishedVersion | None) -> dict[str, Any] | None:
        """Return the models that rollbacks withdrew, None for a model that is not published."""
        nonlocal current
        current = newest  # other runs may publish at any other time
        withdrawn = manifest.withdrawn(base)
        if identity in withdrawn:
            refused.append("rollback")
        elif (served := manifest.served(base)) and served.identity == identity:
            return None
        elif _other_baseline(base, facts):
            refused.append("other_version")
        return None if refused else {"withdrawn": withdrawn}

    published = None
    if not refused:
        beside = {f"{manifest.PROVENANCE}/{name}": path for name, path in provenance.items()}
        texts = {manifest.CARD: model_card.model_card(facts, decision)}
        if images:
            texts[f"{manifest.PROVENANCE}/{known_images.FILE}"] = known_images.text(images)
        sources = {"": model, **beside}
        published = versions.publish(
            base, sources, facts, keep, decide, expected=validated, texts=texts
        )
    current = None if refused else published or current
    status = "refused" if refused else "pushed" if published else "unchanged"
    return {
        "status": status,
        "version": str(current.number) if current else None,
        "path": str(current.path) if current else None,
        "refused_by": refused,
    }


def _other_baseline(base: Path, facts: Mapping[str, Any]) -> bool:
    """Whether another run or a rollback has changed the version to compare with meanwhile."""
    if not {"run_key", "baseline_version"} <= facts.keys():  # of a pipeline without Plan
        return False
    found = manifest.baseline_for(base, facts["run_key"], facts.get("vocabulary", ()))
    return (found.number if found else 0) != facts["baseline_version"]
