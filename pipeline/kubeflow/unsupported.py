"""Settings of `imgpipe run` with which no pipeline can run on Kubeflow Pipelines or Vertex AI."""

from __future__ import annotations

import re

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration import beam as beam_options
from imgpipe.pipeline.configuration.config import Config

#: What TFX's compiler takes, `_LEGAL_NAME_PATTERN` in its pipeline_builder.py.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def refuse(config: Config) -> None:
    """Refuse settings that would fail, or have no effect, in the compiled pipeline.

    Args:
        config: The configuration of a pipeline that is compiled.

    Raises:
        ConfigError: There is such a setting; the message names it.
    """
    beam_options.require_local_workers(config.beam)
    if not _NAME.fullmatch(config.run.name):
        raise ConfigError(
            "run.name: expected small letters, digits and hyphens, beginning with a letter or a "
            f"digit, because Kubeflow Pipelines takes no other names. Received: "
            f"{config.run.name!r}. Add for example: --set run.name=cats-v2"
        )
    if config.train.strategy == "multi_worker":
        raise ConfigError(
            'train.strategy: expected "none" or "mirrored", because a pipeline has one container '
            'for ImageTrainer, and no other workers. Received: "multi_worker".'
        )
