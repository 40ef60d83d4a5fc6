"""``imgpipe schema``: shows the accepted schema, and accepts changes of the data.

A change of the schema itself, such as a new class or another file format, is written to the
accepted schema. A change of distribution is accepted for this data only, by its fingerprint; once a
model trained on it is blessed, later data is compared with its statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from imgpipe.models.errors import ConfigError, DataRefused
from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape, new_console

if TYPE_CHECKING:
    from imgpipe.pipeline.config import Config

app = typer.Typer(
    name="schema",
    help="Show the accepted schema, or accept a change of the data.",
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)

_OF_SCHEMA, _OF_DISTRIBUTION = {"anomaly"}, {"drift", "skew"}
_VALUES_SHOWN = 12

_SHOW_EXAMPLES = """Examples:\n
  imgpipe schema show --out imgpipe-out
"""


@app.command("show", epilog=_SHOW_EXAMPLES)
def show_command(
    config: options.ConfigArgument = None,
    out: options.RunsOption = None,
    settings: options.SettingsOption = None,
) -> None:
    """Show the accepted schema."""
    raise typer.Exit(show(config, out, settings or []))


_ACCEPT_EXAMPLES = """Examples:\n
  imgpipe schema accept --data photos --out imgpipe-out\n
  imgpipe schema accept photos.toml
"""


@app.command("accept", epilog=_ACCEPT_EXAMPLES)
def accept_command(
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    out: options.RunsOption = None,
    settings: options.SettingsOption = None,
) -> None:
    """Accept the schema anomalies, drift and skew for which the last run was refused."""
    raise typer.Exit(accept(config, data, out, settings or []))


def show(source: str | None, out: Path | None, settings: Sequence[str]) -> int:
    """Print the accepted schema.

    Args:
      source: TOML file or name of a preset; None for the defaults.
      out: Output folder of the runs, None for that of the configuration.
      settings: Overrides as ``SECTION.KEY=VALUE``.

    Returns:
      The exit code.

    Raises:
      ConfigError: No schema was accepted yet.
    """
    from rich.table import Table

    from imgpipe.components.data_gate import schema as schemas
    from imgpipe.pipeline import inputs
    from imgpipe.pipeline.settings import configuration

    config = configuration(source, None, out, settings)
    path = config.schema_file
    if not path.is_file():
        raise ConfigError(
            f"no schema was accepted yet: {path} does not exist. The first run whose data passes "
            "the data gate writes it."
        )
    schema = schemas.read(path)
    domains = {domain.name: list(domain.value) for domain in schema.string_domain}
    table = Table("feature", "required", "values", "drift limit", "skew limit")
    for feature in schema.feature:
        values = domains.get(feature.domain, [])
        more = ", …" if len(values) > _VALUES_SHOWN else ""
        table.add_row(
            escape(feature.name),
            "yes" if feature.presence.min_fraction == 1.0 else "no",
            escape(", ".join(values[:_VALUES_SHOWN]) + more) or "any",
            _limit(feature.drift_comparator),
            _limit(feature.skew_comparator),
        )
    console = new_console()
    console.print(table)
    console.print(f"{escape(str(path))}; the limits can be edited in this file")
    accepted = inputs.accepted_data(path)
    if accepted:
        console.print(f"drift and skew are accepted for data {', '.join(f[:12] for f in accepted)}")
    return 0


def _limit(comparator: Any) -> str:
    limit = (
        comparator.infinity_norm.threshold or comparator.jensen_shannon_divergence.threshold or 0.0
    )
    return f"{limit:.2f}" if limit else "–"


def accept(source: str | None, data: str | None, out: Path | None, settings: Sequence[str]) -> int:
    """Accept the anomalies, drift and skew for which the last run was refused.

    Args:
      source: TOML file or name of a preset; None for the defaults.
      data: Source of the images, None for that of the configuration.
      out: Output folder of the runs, None for that of the configuration.
      settings: Overrides as ``SECTION.KEY=VALUE``.

    Returns:
      The exit code.

    Raises:
      ConfigError: No data was inspected in the output folder yet.
    """
    from imgpipe.pipeline import inputs
    from imgpipe.pipeline.settings import configuration

    config = configuration(source, data, out, settings)
    decision = _decision(config)
    reasons = [r for r in decision["reasons"] if r["kind"] in _OF_SCHEMA | _OF_DISTRIBUTION]
    others = [r for r in decision["reasons"] if r not in reasons]
    console = new_console()
    if not reasons:
        console.print("nothing to accept: the last run reported no anomaly, drift or skew")
    features = {r["subject"] for r in reasons if r["kind"] in _OF_SCHEMA and r["subject"]}
    if features:
        _revise(config, decision, features)
    if any(r["kind"] in _OF_DISTRIBUTION for r in reasons):
        inputs.accept_data(config.schema_file, decision["fingerprint"])
    for reason in reasons:
        console.print(f"accepted: {escape(_what(reason))}")
    for reason in others:
        console.print(f"[yellow]cannot be accepted:[/] {escape(reason['sentence'])}")
    if reasons:
        console.print("run again with the same arguments")
    return 0


def _decision(config: Config) -> dict[str, Any]:
    """Read the last decision of DataGate."""
    path = config.decision_file
    try:
        decision = dict(json.loads(path.read_text(encoding="utf-8")))
        decision["statistics"], decision["fingerprint"], decision["vocabulary"], decision["reasons"]
    except FileNotFoundError:
        raise ConfigError(
            f"no run in {config.out} has reached the data gate yet. Name another output folder "
            "with --out."
        ) from None
    except (ValueError, KeyError):
        raise ConfigError(
            f"{path} was written by another version of imgpipe. Run again, then accept."
        ) from None
    return decision


def _revise(config: Config, decision: Mapping[str, Any], features: set[str]) -> None:
    """Update the features in the accepted schema to what the refused data contains."""
    from imgpipe.components.data_gate import schema as schemas
    from imgpipe.pipeline import console, temporary

    with temporary.folder() as folder, console.quiet(folder / "log"):
        from imgpipe.components.data_gate import component

        inferred = component.infer_schema(decision["statistics"])
    if not inferred.feature:
        raise DataRefused(
            "the refused data has no usable image, so there is nothing to accept. Run again with "
            "other data."
        )
    path = config.schema_file
    current = schemas.read(path) if path.is_file() else inferred
    schema = schemas.revised(current, inferred, features, decision["vocabulary"])
    schemas.write(schema, str(path))


def _what(reason: Mapping[str, Any]) -> str:
    split = f" in {reason['split']}" if reason["split"] else ""
    return f"{reason['kind']} {reason['subject']!r}{split}: {reason['seen']}"
