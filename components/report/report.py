"""Report: one page from the artifacts of a run.

The local runner calls `draw` itself when a run is refused or fails before this component.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from imgpipe.components.common import artifacts
from imgpipe.components.common.storage import records
from imgpipe.components.report import facts as run_facts
from imgpipe.components.report import identity, page, thumbnails, verdict
from imgpipe.components.report.facts import REPORTED
from imgpipe.components.report.section import MEASURED, RunState
from imgpipe.components.report.sections import images
from imgpipe.models.files import json_object

TIMINGS = "timings.json"  # the local runner updates it during the run
PAGE = "report.html"
FACTS = "facts.json"
_log = logging.getLogger(__name__)
_THUMBNAILS = 600  # mistakes, doubtful labels and near-duplicates that are read for the page


def _artifact_type(name: str) -> type[Artifact]:
    return getattr(artifacts, name, None) or getattr(standard_artifacts, name)


class ReportSpec(ComponentSpec):
    """The specification: the inputs of `facts.REPORTED`, the settings and the page."""

    INPUTS = {  # noqa: RUF012 - TFX reads a plain dict
        name: ChannelParameter(type=_artifact_type(row.type)) for name, row in REPORTED.items()
    }
    OUTPUTS = {"report": ChannelParameter(type=artifacts.RunReport)}  # noqa: RUF012
    PARAMETERS = {  # noqa: RUF012
        "settings": ExecutionParameter(type=str),
        "run_directory": ExecutionParameter(type=str),
    }


class ReportExecutor(BaseExecutor):
    """Writes ``report.html`` and ``facts.json``, also to the folder of the run if there is one."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Draw the page from the artifacts; see `draw`."""
        uris = {name: artifact_utils.get_single_uri(given) for name, given in input_dict.items()}
        run_directory = exec_properties["run_directory"]
        folders = [artifact_utils.get_single_uri(output_dict["report"]), run_directory]
        log = f"{run_directory}/run.log"
        facts = run_facts.collect(uris, json.loads(exec_properties["settings"]))
        # `imgpipe kubeflow submit --wait` reads the verdict from this line.
        _log.info("the model is %s: %s", facts["push"]["status"], verdict.sentence(facts))
        draw(facts, uris, folders, verdict.state(facts, log=log if Path(log).is_file() else ""))


class Report(BaseComponent):
    """Component that draws one page from the artifacts of a run."""

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = ExecutorClassSpec(ReportExecutor)

    def __init__(self, settings: str, run_directory: str, **reported: Channel) -> None:
        """Connect the component.

        Args:
            settings: JSON object with what `pipeline.plan.report_settings` returns.
            run_directory: Folder of the run, "" when there is none.
            **reported: A channel for each row of `facts.REPORTED` that the pipeline has.
        """
        report = Channel(type=artifacts.RunReport)
        super().__init__(
            ReportSpec(settings=settings, run_directory=run_directory, report=report, **reported)
        )


def draw(
    facts: Mapping[str, Any], uris: Mapping[str, str], folders: list[str], state: RunState
) -> None:
    """Draw the page and write it and the facts to every folder that is not "".

    Args:
        facts: Facts from `imgpipe.components.report.facts.collect`.
        uris: Artifact URIs by name. The page says which sections are missing.
        folders: Folders to write to. Timings, date and command are read from the last one.
        state: How the run ended, as `verdict.state` returns it.
    """
    run = identity.of_run(folders[-1])
    facts = {**facts, "identity": {**run, "packages": identity.packages()}}
    html = page.render(facts, read_timings(folders[-1]), _images(facts, uris), state)
    for folder in filter(None, folders):
        records.write_json(f"{folder}/{FACTS}", facts)
        records.write_text(f"{folder}/{PAGE}", html)


def read_timings(folder: str) -> dict[str, Any] | None:
    """Read the timings of a run; None where the local runner has written none."""
    file = Path(folder) / TIMINGS
    try:
        return json_object.read(file) if file.is_file() else None
    except (OSError, ValueError):  # a page without timings is better than none
        return None


def _images(facts: Mapping[str, Any], uris: Mapping[str, str]) -> dict[str, bytes]:
    """Read the images that the page shows, from the quarantine and from the examples."""
    found: dict[str, bytes] = {}
    for reject in images.shown(facts["rejects"]):
        path = f"{uris['quarantine']}/{reject.get('stored', '')}"
        if reject.get("stored") and tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                found[reject["image_hash"]] = file.read()
    shown = [
        *(row for rows in facts["mistakes"].values() for row in rows),
        *(facts["suspects"] or {}).get("rows", [])[: images.DOUBTFUL],
        *(one for group in (facts["gate"] or {}).get("unlike", []) for one in group["images"]),
        *(one for group in (facts["near"] or {}).get("rows", []) for one in group["members"]),
    ]
    wanted = images.shown_hashes(facts["data"] or {}) | {row["image_hash"] for row in shown}
    if wanted and uris.get("examples"):
        found |= run_facts.encoded_images(uris["examples"], wanted, _THUMBNAILS)
    if uris.get("model"):
        from tfx.utils import path_utils

        explained = [
            row["image_hash"]
            for split in MEASURED
            for row in (facts["mistakes"].get(split) or [])[: thumbnails.EXPLAINED]
        ]
        folder = path_utils.serving_model_path(uris["model"])
        found |= thumbnails.encoded_cams(folder, found, explained)
    return found
