"""The program of each container, and what it leaves in the folder of the run.

Report itself writes the page of a run that reaches it. A task that refuses or fails draws the page
from the artifacts that it read and wrote.

TFX's entry point runs one component and expects what Vertex AI sends. The driver and the launcher
of Kubeflow Pipelines 2.17 send something else, which is translated here:

- Input artifacts carry an empty type. The types are taken from the inputs of the components, which
  the command line repeats.
- There is an output artifact `executor-logs` of Kubeflow's own type `system.Artifact`. It
  belongs to the launcher, which writes it itself.
- URIs name an object store; the files lie in folders of the container (see `places`).
- The output parameters of Plan are the fields of a file in its artifact.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.common.beam import worker_start
from imgpipe.components.run_record import run_folder
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import json_object
from imgpipe.models.machine.process import prefer_batches, quick_imports
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.section import PLAN_FILE
from imgpipe.pipeline.kubeflow.groups import Spec, artifact_name
from imgpipe.pipeline.kubeflow.places import in_run, to_path, to_uri

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ExecutorInput, ExecutorOutput

FAILURE = "failure.json"
#: The table of images and the answers: component and output.
_READ_BY_COMMANDS = (("ImageFilter", "quarantine"), ("ImageEvaluator", "predictions"))
_UMASK = 0o022  # Argo sets 0, with which everybody could change what is published


def keep_plan(plan: Path, run: Path) -> None:
    """Begin the folder `run` with what Plan determined, which has the settings of the page."""
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan / PLAN_FILE, run / PLAN_FILE)
    run_folder.begin(run, str(json_object.read(run / PLAN_FILE)[run_folder.CONFIG]))


def keep_artifacts(artifacts: Mapping[str, str], run: Path) -> None:
    """Copy the artifacts that commands read of a run into its folder, from the object store.

    `artifacts` are the folders in this container, by their names in the pipeline.
    """
    record = {}
    for component, output in _READ_BY_COMMANDS:
        source = artifacts.get(artifact_name(component, output))
        if source is not None:
            place = run / run_folder.ARTIFACT_ROOT / component / output
            shutil.copytree(source, place, dirs_exist_ok=True)  # a task may be tried again
            record[component] = {output: str(place.relative_to(run.parent.parent))}
    json_object.write(run / run_folder.ARTIFACTS, record)


def fail(component: str, artifacts: Mapping[str, str], run: Path, cause: str, code: int) -> None:
    """Write why a component ended the run, and the page if Plan had succeeded, into `run`.

    `artifacts` are the folders of the artifacts in this container, by their names in the pipeline.
    An error is only printed, since it must not take the place of the one that ended the run.
    """
    from imgpipe.components.report import report as page
    from imgpipe.components.run_record import collect, verdict

    try:
        run.mkdir(parents=True, exist_ok=True)
        failure = {"component": component, "cause": cause, "exit_code": code}
        json_object.write(run / FAILURE, failure)
        if not (run / PLAN_FILE).is_file():
            return
        keep_artifacts(artifacts, run)
        plan = json_object.read(run / PLAN_FILE)
        made = {
            name: artifact_name(row.component, row.output) for name, row in collect.REPORTED.items()
        }
        uris = {name: artifacts[key] for name, key in made.items() if key in artifacts}
        result, answers = collect.collect(uris, Given.read(plan["Report"]))
        page.draw(verdict.ended(result, cause, component), answers, uris, [str(run)])
    except Exception:
        traceback.print_exc()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the components that `groups` describes; unknown arguments are Beam's.

    Returns:
        The exit code, with the same meaning as that of `imgpipe run`: 0 when all components have
        finished, 1 for a defect, 2 for a wrong argument, 4 for refused data, 5 for a missing
        resource.
    """
    # An option of Beam must not be taken for the beginning of one of these.
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--components", type=json.loads, required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--run_directory", default="")
    parsed, beam = parser.parse_known_args(arguments)
    os.umask(_UMASK)
    prefer_batches()
    try:
        _run(parsed, beam)
    except Exception as error:
        cause, code = _message_and_exit_code(error, parsed.run_directory)
        if code == 1:
            traceback.print_exc()
        print(f"imgpipe: {cause}", file=sys.stderr)
        return code
    return 0


def _message_and_exit_code(error: Exception, directory: str) -> tuple[str, int]:
    """Message and exit code of an error; `directory` is the folder of the run in `run.out`."""
    from imgpipe.pipeline.execution import failures

    actionable = failures.actionable(
        error, Path(directory).parent.parent if directory else Path.cwd()
    )
    # A container has no command line on which people could name a folder.
    cause = failures.cause(actionable).replace("--out OUT", "run.out")
    return cause, failures.exit_code(actionable)


def _run(parsed: argparse.Namespace, beam: list[str]) -> None:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    given = pipeline_spec_pb2.ExecutorInput()
    completed = pipeline_spec_pb2.ExecutorOutput()
    try:  # fields that this version of kfp does not know are ignored
        json_format.Parse(parsed.input, given, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ConfigError(
            f"--input is not what Kubeflow Pipelines sends: received {parsed.input[:80]!r} "
            f"({error}). Run this command in a task of a pipeline written by "
            "`imgpipe kubeflow compile`."
        ) from error
    run = ""
    if parsed.run_directory:
        run = in_run(parsed.run_directory, next(_artifacts(given.outputs)).uri)
    for artifact in (*_artifacts(given.inputs), *_artifacts(given.outputs)):
        artifact.uri = to_path(artifact.uri)
    with tempfile.TemporaryDirectory(prefix="imgpipe-task-") as folder:
        worker_start.prepare_local(beam, Path(folder))
        for described in parsed.components:
            constants = described["constants"]
            constants |= {k: run for k, v in constants.items() if v and v == parsed.run_directory}
            file = Path(folder, described["name"], "output.json")
            try:
                written = _run_component(described, given, file, beam)
            except Exception as error:
                if run:
                    message, exit_code = _message_and_exit_code(error, parsed.run_directory)
                    fail(described["name"], _places(given), Path(run), message, exit_code)
                raise
            if run and described["name"] == "Report":
                keep_artifacts(_places(given), Path(run))
            for key, made in written.artifacts.items():  # the next component may read them
                name = artifact_name(described["name"], key)
                given.inputs.artifacts[name].CopyFrom(made)
                completed.artifacts[name].CopyFrom(made)
    _complete(completed, given, run)


def _run_component(
    described: Spec, given: ExecutorInput, file: Path, beam: list[str]
) -> ExecutorOutput:
    """Run one component, as `groups` describes it, with TFX's own entry point; return its outputs.

    `given` has the inputs and outputs of the group, with paths in this container; its inputs
    include what the components before have made. TFX writes about the outputs to `file`.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    call = pipeline_spec_pb2.ExecutorInput()
    for key, name in described["artifacts"].items():
        for artifact in given.inputs.artifacts[name].artifacts:
            read = call.inputs.artifacts[key].artifacts.add()
            read.CopyFrom(artifact)
            kind = described["spec"]["artifacts"][key]["artifactType"]
            json_format.ParseDict(kind, read.type)
    for key, value in described["constants"].items():
        json_format.ParseDict(value, call.inputs.parameter_values[key])
    for key, name in described["parameters"].items():
        call.inputs.parameter_values[key].CopyFrom(given.inputs.parameter_values[name])
    for key in described["outputs"]:
        output = given.outputs.artifacts[artifact_name(described["name"], key)]
        call.outputs.artifacts[key].CopyFrom(output)
        for artifact in output.artifacts:  # TFX makes the folders on one machine
            Path(artifact.uri).mkdir(parents=True, exist_ok=True)
    call.outputs.output_file = str(file)
    with quick_imports():
        from absl import logging
        from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor
        from tfx.utils import import_utils

        import_utils.import_class_by_path(described["executor"])
    logging.use_absl_handler()
    arguments = argparse.Namespace(
        executor_class_path=described["executor"],
        json_serialized_invocation_args=json_format.MessageToJson(call),
        json_serialized_inputs_spec_args=json.dumps(described["spec"]),
    )
    kubeflow_v2_run_executor.main((arguments, beam))
    return json_format.Parse(file.read_text("utf-8"), pipeline_spec_pb2.ExecutorOutput())


def _places(given: ExecutorInput) -> dict[str, str]:
    """Return the existing folders of the inputs and outputs, by their names in the pipeline."""
    every = (*given.outputs.artifacts.items(), *given.inputs.artifacts.items())
    places = {name: artifacts.artifacts[0].uri for name, artifacts in every}
    return {name: place for name, place in places.items() if Path(place).exists()}


def _artifacts(described: Any) -> Iterator[Any]:
    """Yield the artifacts in the description of inputs or outputs, which has several by name."""
    for of_name in described.artifacts.values():
        yield from of_name.artifacts


def _complete(completed: ExecutorOutput, given: ExecutorInput, run: str) -> None:
    """Write what the launcher reads: all outputs by URI, and the output parameters of Plan."""
    from google.protobuf import json_format

    if given.outputs.parameters:
        plan = Path(completed.artifacts[artifact_name("Plan", "plan")].artifacts[0].uri)
        if run:
            keep_plan(plan, Path(run))
        values = json.loads((plan / PLAN_FILE).read_text(encoding="utf-8"))
        for name in given.outputs.parameters:
            json_format.ParseDict(values[name], completed.parameter_values[name])
    for artifact in _artifacts(completed):
        artifact.uri = to_uri(artifact.uri)
    file = Path(to_path(given.outputs.output_file))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json_format.MessageToJson(completed), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
