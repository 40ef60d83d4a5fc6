"""A compiled pipeline as a file, and the values that a run gives to its parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from imgpipe.models.errors import ConfigError

#: Ends of the name of a compiled pipeline.
SUFFIXES = (".yaml", ".yml")
_COMPILE = "Write the file with `imgpipe kubeflow compile`."


def read(path: Path) -> dict[str, Any]:
    """Read a compiled pipeline for Kubeflow Pipelines.

    Args:
        path: File of `imgpipe kubeflow compile`.

    Returns:
        The PipelineSpec, which is the first document of the file.

    Raises:
        ConfigError: There is no such file, it is not a compiled pipeline, or it is one for Vertex
            AI.
    """
    import yaml

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError(f"{path} cannot be read as YAML: {said}. {_COMPILE}") from error
    spec = documents[0] if documents else None
    if not _is_pipeline(spec):
        raise ConfigError(
            f"{path} is not a compiled pipeline: expected a PipelineSpec, which has the fields "
            f"'pipelineInfo' and 'root'. {_COMPILE}"
        )
    if "deploymentSpec" in spec and len(documents) == 1:
        raise ConfigError(
            f"{path} is compiled for Vertex AI: its containers share buckets and mount no volumes, "
            "and Kubeflow Pipelines mounts no buckets. Submit it with "
            "google.cloud.aiplatform.PipelineJob, as docs/kubeflow.md shows, or compile it with "
            "volumes {claim, path} in kubeflow.volumes."
        )
    return spec


def _is_pipeline(spec: object) -> TypeGuard[dict[str, Any]]:
    """Whether a document has the fields of a PipelineSpec that are read here."""
    if not isinstance(spec, dict):
        return False
    root = spec.get("root")
    if not isinstance(spec.get("pipelineInfo"), dict) or not isinstance(root, dict):
        return False
    definitions = root.get("inputDefinitions", {})
    declared = definitions.get("parameters", {}) if isinstance(definitions, dict) else None
    return isinstance(declared, dict) and all(isinstance(one, dict) for one in declared.values())


def name(spec: dict[str, Any]) -> str:
    """Find the name that a compiled pipeline gives itself."""
    return str(spec["pipelineInfo"].get("name", "imgpipe"))


def arguments(spec: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Turn the texts of a command line into values for the parameters of a pipeline.

    Args:
        spec: The compiled pipeline.
        given: Texts such as ``epochs=12``.

    Returns:
        The value of each parameter, of the type that the pipeline declares.

    Raises:
        ConfigError: A text has no ``=``, the pipeline has no such parameter, its type is another,
            or a parameter without a default has no value.
    """
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    values = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--param {text}: expected NAME=VALUE, such as --param epochs=12.")
        if key not in declared:
            known = ", ".join(sorted(map(str, declared))) or "none"
            raise ConfigError(
                f"--param {text}: the pipeline has no parameter {key!r}. Its parameters: {known}. "
                "Other settings are fixed when the pipeline is compiled (--set)."
            )
        values[key] = _value(text, value, str(declared[key].get("parameterType", "STRING")))
    for key, one in declared.items():
        if key not in values and "defaultValue" not in one and not one.get("isOptional"):
            raise ConfigError(
                f"the pipeline has no default for its parameter {key!r}, and none is given. Name "
                f"a value: --param {key}=VALUE"
            )
    return values


def _value(text: str, value: str, kind: str) -> Any:
    """Convert one text; `kind` is a ParameterType of the PipelineSpec."""
    if kind == "STRING":
        return value
    expected = _EXPECTED.get(kind, (object, "JSON"))
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    # In Python, bool is a subclass of int.
    wrong = found is None or (isinstance(found, bool) and kind != "BOOLEAN")
    # Python reads NaN and Infinity, which JSON does not have, and 1e999 as infinite.
    wrong = wrong or (isinstance(found, float) and not math.isfinite(found))
    if wrong or not isinstance(found, expected[0]):
        raise ConfigError(f"--param {text}: expected {expected[1]}, received {value!r}.")
    return found


_EXPECTED: dict[str, tuple[type | tuple[type, ...], str]] = {
    "NUMBER_INTEGER": (int, "an integer"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": (bool, "true or false"),
    "LIST": (list, "a JSON array"),
    "STRUCT": (dict, "a JSON object"),
}
