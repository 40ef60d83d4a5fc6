"""What can refuse a run at once, before TensorFlow is imported and a folder is changed."""

from __future__ import annotations

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline import inputs as run_inputs
from imgpipe.pipeline.configuration import beam_options, flat_settings
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.execution import mlflow_log
from imgpipe.pipeline.source import require_classes, require_outside


def check(config: Config) -> None:
    """Refuse settings and sources with which no run can work.

    Args:
        config: The configuration, with absolute paths.

    Raises:
        ConfigError: A setting does not fit the others, the files or the classes.
    """
    run_inputs.check_files(config)
    mlflow_log.check(config.run.mlflow)
    beam_options.require_local_artifacts(config)
    _require_unicode(config)
    require_outside(config)
    require_classes(config)


def _require_unicode(config: Config) -> None:
    """Refuse settings that no file can hold, such as paths of older file systems."""
    for name, value in flat_settings.flat(config.model_dump()):
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{name}: {value!r} is not UTF-8, so that a run cannot record it. Rename the "
                "folder, or use a link to it."
            ) from None
