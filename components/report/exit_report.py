"""ExitReport: the page of a run on Kubeflow, however the run ended.

It is the exit task of the compiled pipeline. On one machine the local runner draws the page of a
run that was refused or failed.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec

from imgpipe.components import artifacts
from imgpipe.components.report import component as report
from imgpipe.components.report import facts as run_facts
from imgpipe.components.report import verdict
from imgpipe.components.report.run_folder import RunFolder


class ExitReportSpec(ComponentSpec):
    """The specification: the folder of the run, and the page."""

    INPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012 - TFX reads a plain dict
    OUTPUTS, PARAMETERS = report.ReportSpec.OUTPUTS, report.ReportSpec.PARAMETERS


class Executor(BaseExecutor):
    """Draws the page from the folder of the run, or copies the page of a run that has finished."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write ``report.html`` and ``facts.json`` to the output and to the folder of the run.

        The artifacts that the tasks left there are removed, but for the quarantine of a run that
        failed or was refused, with which `imgpipe quarantine` works.
        """
        directory = exec_properties["run_directory"]
        output = artifact_utils.get_single_uri(output_dict["report"])
        folder = RunFolder(Path(directory))
        if (Path(directory) / report.PAGE).is_file():
            for name in (report.PAGE, report.FACTS):
                shutil.copyfile(Path(directory) / name, Path(output) / name)
            folder.remove_artifacts()
            return
        failure, uris = folder.failure(), folder.artifacts()
        settings = json.loads(folder.settings() or exec_properties["settings"])
        facts = run_facts.collect(uris, settings)
        state = verdict.state(facts, failure.cause, failure.component)
        report.draw(facts, uris, [output, directory], state)
        folder.remove_artifacts(but_quarantine=True)


class ExitReport(BaseComponent):
    """Component that draws the page of a run that was refused or failed."""

    SPEC_CLASS = ExitReportSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, settings: str, run_directory: str) -> None:
        """Connect the component.

        Args:
            settings: JSON object as that of Report, for a run in which Plan failed.
            run_directory: Folder of the run on a volume.
        """
        page = Channel(type=artifacts.RunReport)
        super().__init__(
            ExitReportSpec(settings=settings, run_directory=run_directory, report=page)
        )
