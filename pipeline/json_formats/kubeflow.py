"""What the commands for Kubeflow Pipelines write."""

from __future__ import annotations

from typing import Annotated, TypedDict

from imgpipe.pipeline.json_formats.common import Version


class Compiled(TypedDict):
    """The compiled pipeline."""

    schema: Version
    file: Annotated[str, "Path of the PipelineSpec."]
    tasks: Annotated[int, "Number of its tasks."]
    image: Annotated[str, "Container image of the tasks."]
    root: Annotated[str, "URI below which artifacts are written."]


class Submitted(TypedDict):
    """The run that was submitted."""

    schema: Version
    run: Annotated[str, "Id of the run on the server."]
    page: Annotated[str, "Address of its page."]
    verdict: Annotated[
        str | None,
        "The decision as a sentence; null without `--wait`, or if the server has no log of it.",
    ]


class Scheduled(TypedDict):
    """The recurring run that was made."""

    schema: Version
    recurring_run: Annotated[str, "Id of the recurring run on the server."]
    page: Annotated[str, "Address of its page."]
