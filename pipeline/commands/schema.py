"""``imgpipe schema``: shows the accepted schema, and accepts changes of the data.

A change of the schema itself, such as a new class or another file format, is written to the
accepted schema. A change of distribution is accepted for this data only, by its fingerprint; once a
model trained on it is blessed, later data is compared with its statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from imgpipe.models.errors import ConfigError, DataRefused
from imgpipe.models.files import json_object
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.table import Table

    from imgpipe.pipeline.configuration.config import Config
    from imgpipe.pipeline.json_formats import data as formats

_EXAMPLES = """Examples:\n
  imgpipe schema show imgpipe-out\n
  imgpipe schema accept imgpipe-out
"""

app = typer.Typer(
    name="schema",
    help="Show the accepted schema, or accept a change of the data.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)

SCHEMA = 1  # of what --json writes
#: Kinds of reasons that a new schema settles, and kinds that are accepted for this data only.
_SCHEMA_KINDS, _DISTRIBUTION_KINDS = {"anomaly"}, {"drift", "skew"}
_VALUES_SHOWN = 12

_SHOW_EXAMPLES = """Examples:\n
  imgpipe schema show imgpipe-out
"""


@app.command("show", epilog=_SHOW_EXAMPLES)
def show(
    config: options.ConfigOrOutArgument = None,
    out: options.RunsOption = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonListOption = None,
) -> None:
    """Show the accepted schema."""
    from imgpipe.components.data_gate import schema as schemas
    from imgpipe.pipeline import inputs
    from imgpipe.pipeline.command_line.settings import of_run_or_file

    path = of_run_or_file(config, settings or [], out=out).schema_file
    if not path.is_file():
        raise ConfigError(
            f"no schema was accepted yet: {path} does not exist. The first run whose data passes "
            "the data gate writes it."
        )
    features = _features(schemas.read(path))
    console = output_files.console_beside(json_file)
    console.print(table_of(features))
    console.print(f"{escape(str(path))}; the limits can be edited in this file")
    accepted = inputs.accepted_data(path)
    if accepted:
        console.print(f"drift and skew are accepted for data {', '.join(f[:12] for f in accepted)}")
    content: formats.AcceptedSchema = {
        "schema": SCHEMA,
        "file": str(path),
        "features": features,
        "accepted_data": list(accepted),
    }
    output_files.write_json(content, json_file)


_ACCEPT_EXAMPLES = """Examples:\n
  imgpipe schema accept imgpipe-out\n
  imgpipe schema accept photos.toml
"""


@app.command("accept", epilog=_ACCEPT_EXAMPLES)
def accept(
    config: options.ConfigOrOutArgument = None,
    data: options.DataOption = None,
    out: options.RunsOption = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonListOption = None,
) -> None:
    """Accept the schema anomalies, drift and skew for which the last run was refused."""
    from imgpipe.pipeline import inputs
    from imgpipe.pipeline.command_line.settings import of_run_or_file

    built = of_run_or_file(config, settings or [], data, out)
    decision = _decision(built)
    reasons = [r for r in decision["reasons"] if r["kind"] in _SCHEMA_KINDS | _DISTRIBUTION_KINDS]
    others = [r for r in decision["reasons"] if r not in reasons]
    console = output_files.console_beside(json_file)
    if not reasons:
        console.print("nothing to accept: the last run reported no anomaly, drift or skew")
    features = {r["subject"] for r in reasons if r["kind"] in _SCHEMA_KINDS and r["subject"]}
    if features:
        _revise(built, decision, features)
    if any(r["kind"] in _DISTRIBUTION_KINDS for r in reasons):
        inputs.accept_data(built.schema_file, decision["fingerprint"])
    for reason in reasons:
        console.print(f"accepted: {escape(_described(reason))}")
    for reason in others:
        console.print(f"[yellow]cannot be accepted:[/] {escape(reason['sentence'])}")
    if reasons:
        console.print("run again with the same arguments")
    content: formats.AcceptedChanges = {
        "schema": SCHEMA,
        "accepted": [_change(reason) for reason in reasons],
        "not_acceptable": [_change(reason) for reason in others],
    }
    output_files.write_json(content, json_file)


def table_of(features: Sequence[formats.SchemaFeature]) -> Table:
    """Make the table of the features, which fits a terminal of 60 columns."""
    from rich import box
    from rich.table import Table

    columns = ("feature", "required", "values", "drift limit", "skew limit")
    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    # Names are shown whole, also on a narrow terminal, where the other columns give way.
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max((len(feature["name"]) for feature in features), default=0)
    table.columns[2].overflow = "fold"
    for feature in features:
        values = feature["values"] or []
        more = ", …" if len(values) > _VALUES_SHOWN else ""
        table.add_row(
            escape(feature["name"]),
            "yes" if feature["required"] else "no",
            escape(", ".join(values[:_VALUES_SHOWN]) + more) or "any",
            *map(_spelled, (feature["drift_limit"], feature["skew_limit"])),
        )
    return table


def _features(schema: Any) -> list[formats.SchemaFeature]:
    domains = {domain.name: list(domain.value) for domain in schema.string_domain}
    return [
        {
            "name": feature.name,
            "required": feature.presence.min_fraction == 1.0,
            "values": domains.get(feature.domain),
            "drift_limit": _limit(feature.drift_comparator),
            "skew_limit": _limit(feature.skew_comparator),
        }
        for feature in schema.feature
    ]


def _limit(comparator: Any) -> float | None:
    # TFDV has the norm for categories and the divergence for numbers; 0 stands for no limit.
    norm, divergence = comparator.infinity_norm, comparator.jensen_shannon_divergence
    return norm.threshold or divergence.threshold or None


def _spelled(limit: float | None) -> str:
    return "–" if limit is None else f"{limit:.2f}"


def _change(reason: Mapping[str, Any]) -> formats.Change:
    return {
        "kind": reason["kind"],
        "subject": reason["subject"],
        "split": reason["split"],
        "expected": reason["expected"],
        "seen": reason["seen"],
    }


def _decision(config: Config) -> dict[str, Any]:
    """Read the last decision of DataGate."""
    from imgpipe.pipeline.output import past_runs

    path = config.decision_file
    try:
        decision = json_object.read(path)
        # Raises KeyError if one of the fields is missing.
        decision["statistics"], decision["fingerprint"], decision["vocabulary"], decision["reasons"]
    except FileNotFoundError:
        if past_runs.read(config.out):
            raise ConfigError(
                f"the last run in {config.out} did not reach the data gate. Run again, then accept."
            ) from None
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
    from imgpipe.pipeline.command_line import steps
    from imgpipe.pipeline.output import run_folders

    statistics = str(run_folders.artifact(decision["statistics"], config.out))
    with steps.quiet():
        from imgpipe.components.data_gate import component  # imports TFX, which prints to the log

        inferred = component.infer_schema(statistics)
    if not inferred.feature:
        raise DataRefused(
            "the refused data has no usable image, so there is nothing to accept. Run again with "
            "other data."
        )
    path = config.schema_file
    current = schemas.read(path) if path.is_file() else inferred
    schema = schemas.revised(current, inferred, features, decision["vocabulary"])
    schemas.write(schema, str(path))


def _described(reason: Mapping[str, Any]) -> str:
    split = f" in {reason['split']}" if reason["split"] else ""
    subject = repr(reason["subject"]) if reason["subject"] else "of the whole data set"
    return f"{reason['kind']} {subject}{split}: {reason['seen']}"
