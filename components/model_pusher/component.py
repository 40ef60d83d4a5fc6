"""ModelPusher: blessed models only, atomically, and never the same one twice.

TFX's Pusher copies into the numeric directory, where a polling server can meet half a model, and
pushes an unchanged model again under a new number.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import (
    ExampleStatistics,
    InfraBlessing,
    Model,
    ModelBlessing,
    PushedModel,
    Schema,
)
from tfx.utils import path_utils

from imgpipe.components import blessings, records
from imgpipe.components.artifacts import BLESSED_LITE, LiteModels
from imgpipe.components.model_pusher import manifest, versions

PUSH = "push.json"


@component
def ModelPusher(
    model: InputArtifact[Model],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    pushed_model: OutputArtifact[PushedModel],
    push_directory: Parameter[str],
    keep: Parameter[int],
    facts: Parameter[str],
    cross_validation: InputArtifact[ModelBlessing] = None,
    lite: InputArtifact[LiteModels] = None,
) -> None:
    """Publish the model if its gates blessed it and it is not what is there already.

    Args:
      model: the Trainer's export.
      model_blessing: of the Evaluator.
      infra_blessing: of the ServingValidator.
      statistics: of the data, kept beside the model for Baseline.
      schema: the data was judged by, kept beside the model for Baseline.
      pushed_model: ``push.json`` with status, version and path.
      push_directory: serving base path.
      keep: versions that stay.
      facts: JSON for the manifest: run key, vocabulary and the like.
      cross_validation: of the CrossValidator, where the run has one.
      lite: of the LiteExporter, where the run has one; only its blessed files are published.
    """
    gates = {
        "model": blessings.is_blessed(model_blessing.uri),
        "serving": blessings.is_blessed(infra_blessing.uri, blessings.INFRA_BLESSED),
    }
    if cross_validation is not None:
        gates["cross_validation"] = blessings.is_blessed(cross_validation.uri)
    outcome = push(
        Path(push_directory),
        Path(path_utils.serving_model_path(model.uri)),
        {"statistics": Path(statistics.uri), "schema": Path(schema.uri)},
        gates,
        json.loads(facts),
        keep,
        Path(lite.uri) / BLESSED_LITE if lite is not None else None,
        records.read_json(f"{infra_blessing.uri}/{blessings.VALIDATED}"),
    )
    records.write_json(f"{pushed_model.uri}/{PUSH}", outcome)
    for name in ("status", "path"):
        pushed_model.set_string_custom_property(name, outcome[name] or "")
    pushed_model.set_string_custom_property("pushed_version", outcome["version"] or "")


def push(
    base: Path,
    model: Path,
    provenance: dict[str, Path],
    gates: dict[str, bool],
    facts: dict[str, Any],
    keep: int,
    lite: Path | None = None,
    validated: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Publish `model` below `base` unless a gate refused it or it is there already.

    Args:
      base: serving base path.
      model: SavedModel directory.
      provenance: folders to keep beside it, by name.
      gates: verdict by gate; one False refuses.
      facts: what the manifest says of run and model.
      keep: versions that stay.
      lite: folder of blessed LiteRT files that go beside the SavedModel; it need not exist.
      validated: files of the model that was validated, as of `manifest.describe`; None for any.

    Returns:
      ``{"status": "pushed"|"unchanged"|"refused", "version", "path", "refused_by"}``; a model that
      a rollback took back is refused by "rollback".

    Raises:
      ResourceError: the directory cannot be written, or the model is not the one that was
        validated; nothing was changed.
    """
    refused = [name for name, passed in gates.items() if not passed]
    files = manifest.describe(model)
    if validated is not None:
        _require_validated(model, files, validated)
    sources = {"": model}
    if lite is not None and lite.is_dir():
        files |= manifest.describe(lite)
        sources["."] = lite  # into the version directory itself, over the SavedModel's folders
    identity = manifest.identity(files)
    back = manifest.withdrawn(base)
    if _withdrawn(identity, manifest.model_identity(files), set(back), manifest.latest(base)):
        refused.append("rollback")
    if refused:
        return {"status": "refused", "version": None, "path": None, "refused_by": refused}
    sources |= {f"{manifest.PROVENANCE}/{name}": path for name, path in provenance.items()}
    published = versions.publish(
        base,
        sources,
        {**facts, "withdrawn": back},
        keep,
        unless=lambda found: _is_there(base, found, identity),
        expected=validated,
    )
    current = published or manifest.latest(base)
    return {
        "status": "pushed" if published else "unchanged",
        "version": str(current.number) if current else None,
        "path": str(current.path) if current else None,
        "refused_by": [],
    }


def _is_there(base: Path, newest: manifest.Version | None, identity: str) -> bool:
    """Whether the newest version is this and no damaged one has a higher number.

    TensorFlow Serving takes the highest number, whether it is whole or not.
    """
    highest = max(manifest.version_numbers(base), default=0)
    return newest is not None and newest.identity == identity and newest.number == highest


def _require_validated(
    model: Path, files: Mapping[str, Any], validated: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a model whose files are not those that were validated."""
    other = sorted(n for n in {*files, *validated} if files.get(n) != validated.get(n))
    if other:
        raise versions.changed(model, other)


def _withdrawn(identity: str, model: str, back: set[str], newest: manifest.Version | None) -> bool:
    """Whether a rollback took this back: just this, or the model with whatever was beside it."""
    served = newest.model_identity if newest else ""
    return identity in back or (model in back and served != model)
