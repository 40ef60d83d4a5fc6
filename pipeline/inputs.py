"""What the components receive from the sections of the configuration.

Nothing here imports TensorFlow or TFX, since the command line calls it while they are still
loading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from imgpipe.components.data_gate.rules import GateSettings
from imgpipe.components.example_gen.sources import SourceOptions
from imgpipe.components.image_filter import overrides as override_files
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.splits import SplitRule
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.configuration.config import WEIGHT_FILES, Config, changed


def source_options(config: Config) -> SourceOptions:
    """Options of the source: the section [data] without the source itself."""
    given = asdict(config.data)
    del given["source"]
    return SourceOptions(**given)


def judge_settings(config: Config, vocabulary: Sequence[str] | None = None) -> Settings:
    """Return the settings of the checks.

    Args:
        config: The configuration.
        vocabulary: Class names, with which overrides are read and checked. None leaves them out.

    Returns:
        The settings of ImageFilter.

    Raises:
        ConfigError: The overrides cannot be read or name unknown classes.
    """
    judging = config.judge
    overrides: Mapping[str, override_files.Override] = {}
    if vocabulary is not None and config.overrides_file:
        overrides = override_files.resolve(override_files.load(config.overrides_file), vocabulary)
    return Settings(
        min_side=judging.min_side,
        pixel_limit=judging.pixel_limit,
        severity=judging.severity.model_dump(exclude_defaults=True),
        threshold=judging.threshold.model_dump(exclude_defaults=True),
        overrides=overrides,
    )


def gate_settings(config: Config, vocabulary: Sequence[str]) -> GateSettings:
    """Return the data gate's requirements on the number of images."""
    return GateSettings.of(config.gate.model_dump(), vocabulary)


def split_rule(config: Config, given: tuple[str, ...] = ()) -> SplitRule:
    """Return the rule by which images are assigned to splits.

    Args:
        config: The configuration.
        given: Splits that the source itself names.
    """
    split, gate = config.split, config.gate
    return SplitRule(
        split.seed,
        split.validation,
        split.test,
        given,
        gate.min_validation,
        1,  # nothing is required of test, but a class with enough images gets one
    )


def check_files(config: Config) -> None:
    """Check the files that the configuration names, before TensorFlow is imported.

    Args:
        config: The configuration.

    Raises:
        ConfigError: The overrides are missing or malformed.
        ResourceError: The weights are missing.
    """
    if config.overrides_file is not None:
        override_files.load(config.overrides_file)
    weights = config.settings.weights
    if weights.endswith(WEIGHT_FILES) and not Path(weights).is_file():
        raise ResourceError(f"model.weights: there is no file {weights}.")


def report_settings(
    config: Config, vocabulary: Sequence[str], fingerprint: str = ""
) -> dict[str, object]:
    """Select the settings that the report shows.

    Args:
        config: The validated configuration.
        vocabulary: Class names in sorted order.
        fingerprint: Fingerprint of the source, "" while it is not known.
    """
    return {
        "name": config.run.name,
        "source": config.data.source,
        "vocabulary": list(vocabulary),
        "proposals": _proposals(config),
        "threshold": config.evaluate.threshold,
        "max_drop": config.evaluate.max_drop,
        "cross_validate": config.folds,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "expect": config.expect.model_dump(),
        "fingerprint": fingerprint,
        "seeds": {"split": config.split.seed, "train": config.train.seed},
        "changed": changed(config),
    }


def _proposals(config: Config) -> int:
    """Return the number of unconfirmed overrides; 0 if the file cannot be read any more."""
    try:
        found = override_files.load(config.overrides_file) if config.overrides_file else ()
    except ConfigError:
        return 0
    return len(found) - len(override_files.confirmed(found))
