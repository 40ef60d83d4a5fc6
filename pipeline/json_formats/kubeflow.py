"""What the commands for Kubeflow Pipelines write."""

from __future__ import annotations

from typing import Annotated

from imgpipe.pipeline.json_formats.common import Document


class Compiled(Document):
    """The compiled pipeline."""

    file: Annotated[str, "Path of the PipelineSpec."]
    tasks: Annotated[int, "Number of its tasks."]
    image: Annotated[str, "Container image of the tasks."]
    root: Annotated[str, "URI below which artifacts are written."]


class Submitted(Document):
    """The run that was submitted."""

    run: Annotated[str, "Id of the run on the server."]
    page: Annotated[str, "Address of its page."]
    verdict: Annotated[
        str | None,
        "The decision as a sentence; null without `--wait`, if the run failed, or if the server "
        "has no log of it.",
    ]


class Scheduled(Document):
    """The recurring run that was made."""

    recurring_run: Annotated[str, "Id of the recurring run on the server."]
    page: Annotated[str, "Address of its page."]
