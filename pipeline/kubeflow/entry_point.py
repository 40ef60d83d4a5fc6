"""The program of each container of the compiled pipeline. It runs one component with TFX's code.

TFX's entry point expects what Vertex AI sends. The driver and the launcher of Kubeflow Pipelines
2.17 send something else, which is translated here:

- Input artifacts carry an empty type. The types are taken from the inputs of the compiled task,
  which the command line repeats.
- There is an output artifact ``executor-logs`` of Kubeflow's own type ``system.Artifact``. It
  belongs to the launcher, which writes it itself.
- URIs name an object store; the files lie in folders of the container (see `mounts`).
- The output parameters of Plan are the fields of a file in its artifact.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.beam import worker_start
from imgpipe.components.plan import FILE as PLAN_FILE
from imgpipe.models.errors import ConfigError, ImgpipeError
from imgpipe.models.process import quick_imports
from imgpipe.pipeline.kubeflow import mounts
from imgpipe.pipeline.kubeflow.run_folder import RunFolder

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentInputsSpec, ExecutorInput

_UMASK = 0o022  # Argo sets 0, with which everybody could change what is published
_INPUT, _SPEC = "--json_serialized_invocation_args", "--json_serialized_inputs_spec_args"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one component with arguments as TFX's compiler writes them; unknown ones are Beam's.

    Returns:
        The exit code, with the same meaning as that of ``imgpipe run``: 0 when the component has
        finished, 1 for a defect, 2 for a wrong argument, 4 for refused data, 5 for a missing
        resource.
    """
    parsed, beam = _parser().parse_known_args(arguments)
    os.umask(_UMASK)
    try:
        _run(parsed, beam)
    except Exception as error:
        traceback.print_exc()
        cause, code = _known(error, parsed.run_folder)
        print(f"imgpipe: {cause}", file=sys.stderr)
        return code
    return 0


def _known(error: Exception, folder: RunFolder) -> tuple[str, int]:
    """Message and exit code of an error."""
    from imgpipe.pipeline.execution import failures

    known = failures.known(error, folder.output_folder)
    # A container has no command line on which people could name a folder.
    cause = failures.cause(known).replace("--out OUT", "run.out")
    return cause, known.exit_code if isinstance(known, ImgpipeError) else 1


def _parser() -> argparse.ArgumentParser:
    # An option of Beam must not be taken for the beginning of one of these.
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for name in ("--executor_class_path", _INPUT, _SPEC):
        parser.add_argument(name, required=True)
    parser.add_argument("--run_folder", type=RunFolder.parse, default="")
    return parser


def _run(parsed: argparse.Namespace, beam: list[str]) -> None:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    given, spec = pipeline_spec_pb2.ExecutorInput(), pipeline_spec_pb2.ComponentInputsSpec()
    sent = parsed.json_serialized_invocation_args
    try:  # fields that this version of kfp does not know are ignored
        json_format.Parse(sent, given, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ConfigError(
            f"{_INPUT} is not what Kubeflow Pipelines sends: received {sent[:80]!r} ({error}). Run "
            "this command in a task of a pipeline written by `imgpipe kubeflow compile`."
        ) from error
    json_format.Parse(parsed.json_serialized_inputs_spec_args, spec, ignore_unknown_fields=True)
    folder: RunFolder = parsed.run_folder
    run = _name_run(given, folder.directory)
    translate(given, spec)
    for artifact in _artifacts(given.outputs):  # TFX makes them on one machine
        Path(artifact.uri).mkdir(parents=True, exist_ok=True)
    wanted = list(given.outputs.parameters)
    given.outputs.parameters.clear()  # TFX would look for an artifact of each
    try:
        _run_executor(parsed, beam, given)
    except Exception as error:
        if run:
            folder.fail(given, run, *_known(error, folder))
        raise
    folder.keep_plan(given, run)
    _complete(Path(given.outputs.output_file), wanted)


def _run_executor(parsed: argparse.Namespace, beam: list[str], given: ExecutorInput) -> None:
    """Run the component with TFX's own entry point."""
    from google.protobuf import json_format

    with quick_imports():
        from absl import logging
        from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor
        from tfx.utils import import_utils

        import_utils.import_class_by_path(parsed.executor_class_path)
    logging.use_absl_handler()
    parsed.json_serialized_invocation_args = json_format.MessageToJson(given)
    with tempfile.TemporaryDirectory(prefix="imgpipe-beam-") as folder:
        worker_start.prepare_local(beam, Path(folder))
        kubeflow_v2_run_executor.main((parsed, beam))


def _name_run(given: ExecutorInput, directory: str) -> str:
    """Return the folder of the run with the id of the run, also in the component's parameters.

    The parameters in `given` are changed in place. In `directory`, `mounts.RUN` stands for the id.
    """
    first = next(_artifacts(given.outputs), None)
    if not directory or first is None:
        return ""
    named = mounts.in_run(directory, first.uri)
    for value in given.inputs.parameter_values.values():
        if value.string_value == directory:
            value.string_value = named
    return named


def translate(given: ExecutorInput, spec: ComponentInputsSpec) -> None:
    """Change what Kubeflow Pipelines sent into what TFX's entry point expects.

    In `given`, artifacts that the component does not have are removed, and the others get their
    type, from its inputs in the compiled pipeline, and paths in this container instead of URIs.
    """
    for name in set(given.inputs.artifacts) - set(spec.artifacts):
        del given.inputs.artifacts[name]
    for name, found in list(given.outputs.artifacts.items()):
        # TFX's compiler writes an instance schema for each output, Kubeflow for none of its own.
        if not all(artifact.type.instance_schema for artifact in found.artifacts):
            del given.outputs.artifacts[name]
    for name, found in given.inputs.artifacts.items():
        for artifact in found.artifacts:
            artifact.type.CopyFrom(spec.artifacts[name].artifact_type)
    for artifact in (*_artifacts(given.inputs), *_artifacts(given.outputs)):
        artifact.uri = mounts.to_path(artifact.uri)
    given.outputs.output_file = mounts.to_path(given.outputs.output_file)


def _artifacts(described: Any) -> Iterator[Any]:
    """Yield the artifacts in the description of inputs or outputs, which has several by name."""
    for found in described.artifacts.values():
        yield from found.artifacts


def _complete(output_file: Path, parameters: Sequence[str]) -> None:
    """Add the output parameters to TFX's file, and name the outputs by URI instead of by path."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    written = json.loads(output_file.read_text(encoding="utf-8"))
    if parameters:
        [plan] = written["artifacts"]["plan"]["artifacts"]
        values = json.loads((Path(plan["uri"]) / PLAN_FILE).read_text(encoding="utf-8"))
        written["parameterValues"] = {name: values[name] for name in parameters}
    completed = json_format.ParseDict(written, pipeline_spec_pb2.ExecutorOutput())
    for artifact in _artifacts(completed):
        artifact.uri = mounts.to_uri(artifact.uri)
    output_file.write_text(json_format.MessageToJson(completed), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
