"""ModelPusher: blessed models only, atomically, and never the same one twice.

TFX's Pusher copies into the numeric directory, where a polling server can meet half a model, and
pushes an unchanged model again under a new number.
"""

import json
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
    state: Parameter[str],
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
      state: digest of the newest version there when the run began; a push made or undone by
        others invalidates the cached outcome.
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

    Returns:
      ``{"status": "pushed"|"unchanged"|"refused", "version", "path", "refused_by"}``; a model that
      a rollback took back is refused by "rollback".

    Raises:
      ResourceError: the directory cannot be written; nothing was changed.
    """
    refused = [name for name, passed in gates.items() if not passed]
    files = manifest.describe(model)
    sources = {"": model}
    if lite is not None and lite.is_dir():
        files |= manifest.describe(lite)
        sources["."] = lite  # into the version directory itself, over the SavedModel's folders
    identity = manifest.identity(files)
    newest = manifest.latest(base)
    if newest is not None and _withdrawn(identity, manifest.model_identity(files), newest):
        refused.append("rollback")
    if refused:
        return {"status": "refused", "version": None, "path": None, "refused_by": refused}
    sources |= {f"{manifest.PROVENANCE}/{name}": path for name, path in provenance.items()}
    published = versions.publish(
        base,
        sources,
        {**facts, "withdrawn": newest.withdrawn if newest else []},
        keep,
        unless=lambda found: found is not None and found.identity == identity,
    )
    current = published or manifest.latest(base)
    return {
        "status": "pushed" if published else "unchanged",
        "version": str(current.number) if current else None,
        "path": str(current.path) if current else None,
        "refused_by": [],
    }


def _withdrawn(identity: str, model: str, newest: manifest.Version) -> bool:
    """Whether a rollback took this back: just this, or the model with whatever was beside it."""
    back = set(newest.withdrawn)
    return identity in back or (model in back and newest.model_identity != model)
