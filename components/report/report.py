"""Report: one page from the artifacts of a run.

The local runner calls `draw` itself when a run is refused or fails before this component.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from imgpipe.components.report.commands import next_commands
from imgpipe.components.report.page import Page
from imgpipe.components.report.pictures import plots, thumbnails
from imgpipe.components.report.sections import images
from imgpipe.components.run_record import collect, verdict
from imgpipe.components.run_record.collect import REPORTED
from imgpipe.components.run_record.doubtful_labels import ImageAnswers
from imgpipe.components.run_record.result import Result, placed, whole
from imgpipe.components.run_record.run_folder import ANSWERS, PAGE, RESULT
from imgpipe.models.settings.given import Given


def _artifact_type(name: str) -> type[Artifact]:
    return getattr(artifacts, name, None) or getattr(standard_artifacts, name)


class ReportSpec(ComponentSpec):
    """The specification: the inputs of `collect.REPORTED`, the settings and the page."""

    INPUTS = {  # noqa: RUF012 - TFX reads a plain dict
        name: ChannelParameter(type=_artifact_type(row.type)) for name, row in REPORTED.items()
    }
    OUTPUTS = {"report": ChannelParameter(type=artifacts.RunReport)}  # noqa: RUF012
    PARAMETERS = {  # noqa: RUF012
        "settings": ExecutionParameter(type=str),
        "run_directory": ExecutionParameter(type=str),
    }


class ReportExecutor(BaseExecutor):
    """Writes `report.html` and `result.json`, also to the folder of the run if there is one."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Draw the page from the artifacts; see `draw`."""
        uris = {
            name: artifact_utils.get_single_uri(of_input) for name, of_input in input_dict.items()
        }
        folder = exec_properties["run_directory"]
        folders = [artifact_utils.get_single_uri(output_dict["report"]), folder]
        result, answers = collect.collect(uris, Given.read(exec_properties["settings"]))
        draw(verdict.ended(result), answers, uris, folders)


class Report(BaseComponent):
    """Component that draws one page from the artifacts of a run."""

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = ExecutorClassSpec(ReportExecutor)

    def __init__(self, settings: str, run_directory: str, **reported: Channel) -> None:
        """Connect the component.

        Args:
            settings: What it reads; see `imgpipe.models.settings.given`.
            run_directory: Folder of the run, "" when there is none.
            **reported: A channel for each row of `collect.REPORTED` that the pipeline has.
        """
        report = Channel(type=artifacts.RunReport)
        super().__init__(
            ReportSpec(settings=settings, run_directory=run_directory, report=report, **reported)
        )


def draw(
    result: Result, answers: ImageAnswers | None, uris: Mapping[str, str], folders: list[str]
) -> Result:
    """Draw the page and write it and the result to every folder that is not "".

    Args:
        result: The result with its verdict.
        answers: The answers to every image, which a review reads.
        uris: Artifact URIs by name.
        folders: Folders to write to. The last one is that of the run, with timings, date, command
            and log.

    Returns:
        The result with what the folder of the run tells.
    """
    result = placed(result, folders[-1])
    result["next"] = next_commands(result)
    result["report"] = f"{result['folder']}/{PAGE}" if result["folder"] else PAGE
    page = Page.of(result)
    html = page.html(_images(page, uris))
    for folder in filter(None, folders):
        if answers is not None:
            records.write_json(f"{folder}/{ANSWERS}", answers)
        records.write_json(f"{folder}/{RESULT}", result)
        records.write_text(f"{folder}/{PAGE}", html)
    return result


def _images(page: Page, uris: Mapping[str, str]) -> dict[str, bytes]:
    """Read the images that the page shows, from the quarantine and from the examples.

    Large ones are made small at once, so that memory grows little with their number.
    """
    result = page.result
    files = _rejected_files(result)
    with ThreadPoolExecutor(1) as threads:  # half of the time is spent in TensorFlow
        explanations = threads.submit(_explanations, result, uris)
        if "examples" in uris:
            shown = {picture.key for picture in page.pictures()}
            on_map = result["map"]["images"] if result["map"] is not None else []
            wanted = shown | {image["image_hash"] for image in on_map}
            for image_hash, data in collect.encoded_images(uris["examples"], wanted):
                side = thumbnails.SIDE if image_hash in shown else plots.TILE_SOURCE
                files[image_hash] = thumbnails.kept(data, side)
        return files | explanations.result()


def _explanations(result: Result, uris: Mapping[str, str]) -> dict[str, bytes]:
    """Draw the Grad-CAM of the first mistakes."""
    mistakes = result["answers"]["mistakes"] if result["answers"] is not None else []
    explained = [mistake["image_hash"] for mistake in mistakes[: thumbnails.EXPLAINED]]
    if not explained or not {"examples", "model"} <= uris.keys():
        return {}
    from tfx.utils import path_utils

    originals = dict(collect.encoded_images(uris["examples"], set(explained)))
    folder = path_utils.serving_model_path(uris["model"])
    return thumbnails.encoded_cams(folder, originals, explained)


def _rejected_files(result: Result) -> dict[str, bytes]:
    """Read the rejected files that the page shows from the quarantine, by image hash."""
    files: dict[str, bytes] = {}
    for reject in images.shown(result["rejected"]):
        path = f"{whole(result, result['quarantine'])}/{reject['stored']}"
        if reject["stored"] and tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                files[reject["image_hash"]] = thumbnails.kept(file.read())
    return files
