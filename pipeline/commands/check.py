"""``imgpipe check``: inspects the data without training anything.

It needs neither TFX nor Beam: TensorFlow decodes the images, and Pillow and numpy measure them.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.data_gate import rules
    from imgpipe.components.source_check import JudgedSource, SourceCheckPlan
    from imgpipe.pipeline.configuration.config import Config

app = typer.Typer()

SCHEMA = 1  # of the file that --json writes
_STYLES = {"rejected": "red", "repaired": "green", "warned": "yellow", "noted": "dim"}
_THIN = ("missing_class", "too_few")  # kinds of reasons: classes with too few images
_MOST_CLASSES = 12  # of more, the table shows only those with the fewest images
_FEWEST_CLASSES = 5
_NAME_WIDTH = 44  # characters of a class in the table, which fits a terminal of 80 columns
_ADVICE = "repair or remove the files (--html shows them)"
_EXAMPLES = """Examples:\n
  imgpipe check photos\n
  imgpipe check photos.zip --html page.html\n
  imgpipe check photos --out imgpipe-out\n
  imgpipe check photos --set gate.min_train=20 --json -
"""


@app.command(rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help=options.SOURCE_HELP)],
    config: options.ConfigOption = None,
    preset: options.PresetOption = None,
    out: options.OutOption = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonListOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Report what a run would reject, repair and warn about, without training."""
    from imgpipe.pipeline.command_line.settings import configuration, one_source
    from imgpipe.pipeline.source import require_classes

    built = configuration(one_source(config, preset), data, out, settings or [])
    require_classes(built)  # before the imports, which take seconds
    found = examine(built, html_file is not None, json_file == output_files.STANDARD_OUTPUT)
    console = output_files.console_beside(json_file)
    _print(console, found)
    if html_file is not None:
        output_files.write(html_file, page(found), "--html ")
        console.print(f"  page     {escape(str(html_file))}")
    elif found.judged.rejects or found.judged.repairs or found.judged.warnings:
        console.print("  to see these images, add: --html check.html")
    output_files.write_json(as_json(found), json_file)
    if found.refused:
        raise typer.Exit(DataRefused.exit_code)


@dataclasses.dataclass(frozen=True)
class ExaminedSource:
    """The result of a check.

    Attributes:
        plan: What was checked, and with which settings.
        judged: The findings.
        images: Encoded images for the page by path; empty if they were not wanted.
        refused: Why a run would refuse the data; empty if it would not.
        verdict: A sentence that begins with "clean", "usable" or "refused".
    """

    plan: SourceCheckPlan
    judged: JudgedSource
    images: Mapping[str, bytes]
    refused: Sequence[rules.Reason]
    verdict: str

    def reasons(self) -> list[str]:
        """Return why a run would refuse the data in a few sentences."""
        from imgpipe.components.data_gate import rules

        return rules.summarised(rules.as_dicts(self.refused))


def examine(config: Config, with_images: bool, to_stderr: bool) -> ExaminedSource:
    """Inspect the data of a configuration, and judge the numbers of images as DataGate does.

    They are compared with the data that the output folder accepted last.

    The inspection cache is used only if `judge.store` names its folder, so that a check writes
    only the files that were asked for.

    Args:
        config: The validated configuration.
        with_images: Whether the images of the page are read too.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        The findings and the verdict.

    Raises:
        ConfigError: The source or a setting is wrong.
    """
    from imgpipe.components import source_check
    from imgpipe.components.data_gate import rules
    from imgpipe.components.image_filter import overrides
    from imgpipe.models.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.plan import check_settings, split_rule
    from imgpipe.pipeline.source import source_options

    plan = source_check.SourceCheckPlan(
        source=config.data.source,
        settings=check_settings(config),
        options=source_options(config),
        rule=split_rule(config),
        overrides=overrides.load(config.overrides_file) if config.overrides_file else (),
        store=str(config.judge_store) if config.judge.store else "",
    )
    images: dict[str, bytes] = {}
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the inspection
        with display.step("inspecting images"):
            judged = source_check.judge(plan)
        if with_images:
            from imgpipe.components.report.check_page import paths_shown

            with display.step("reading images for the page"):
                images = source_check.read_images(plan, judged, paths_shown(judged))
    known = _accepted(config)
    demanded = rules.GateSettings.of(config.gate.model_dump(), judged.scan.vocabulary, known)
    refused = [
        # DataGate's advice names the quarantine, which a check does not write.
        dataclasses.replace(reason, advice=reason.advice.replace(rules.SEE_REASONS, _ADVICE))
        for reason in rules.counted(judged.summary, demanded)
    ]
    return ExaminedSource(plan, judged, images, refused, _verdict(judged, bool(refused)))


def _accepted(config: Config) -> dict[str, int | None]:
    """Return the classes that the output folder accepts; see `GateSettings.accepted`.

    The folder of that name may belong to other images. If nobody chose it, it therefore counts only
    if a run into it had the same source.
    """
    from imgpipe.components.data_gate import accepted, schema
    from imgpipe.pipeline.output import past_runs

    file, source = config.schema_file, config.with_absolute_paths().data.source
    chosen = "out" in config.run.model_fields_set or any(
        run.config.get("data.source") == source for run in past_runs.read(config.out)
    )
    found = chosen and file.is_file()
    return schema.classes(schema.read(file), accepted.classes(file)) if found else {}


def _verdict(judged: JudgedSource, refused: bool) -> str:
    from imgpipe.components.report.text import overridden, plural

    summary = judged.summary
    warned = len({found.path for found in judged.warnings})
    counts = {"rejected": summary["rejected"], "repaired": summary["repaired"]}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    said += [f"{plural(warned, 'image')} with warnings"] if warned else []
    clauses = [clause for clause in (", ".join(said), overridden(summary)) if clause]
    images = plural(summary["in"], "image")
    if not clauses and not refused:
        return f"clean: {images}, no problems found"
    outcome = "; ".join((f"{summary['kept']:,} of {images} kept", *clauses))
    return f"refused: a run would refuse this data ({outcome})" if refused else f"usable: {outcome}"


def as_json(found: ExaminedSource) -> dict[str, Any]:
    """Build what `--json` writes; `imgpipe.pipeline.records` declares it."""
    from imgpipe.components.image_filter.near_groups import set_aside
    from imgpipe.components.report.check_page import findings

    judged = found.judged
    return {
        "schema": SCHEMA,
        "source": judged.scan.source,
        "classes": list(judged.scan.vocabulary),
        "refused": bool(found.refused),
        "verdict": found.verdict,
        "reasons": [reason.sentence() for reason in found.refused],
        "thin": [r.sentence() for r in found.refused if r.kind in _THIN],
        **judged.summary,
        "files": {**findings(judged), "reviewed": [f.row() for f in judged.reviews]},
        "set_aside": set_aside(judged.near or ()),
        "near_duplicates": None if judged.near is None else list(judged.near),
        "seconds": round(judged.seconds, 3),
    }


def _print(console: Console, found: ExaminedSource) -> None:
    from imgpipe.components.image_filter.near_groups import set_aside
    from imgpipe.components.report import families
    from imgpipe.components.report.text import aside, converted, moves

    judged = found.judged
    _print_findings(console, judged)
    _print_classes(console, judged)
    said = families.sentences(judged.summary["families"])
    said += moves(judged.summary["moved"])
    said += aside(set_aside(judged.near or ()))
    said += converted(judged.summary)
    for line in said:
        console.print(f"  {escape(line)}")
    if unknown := judged.summary["overrides"]["unknown"]:
        console.print(f"  overrides that match no file: {', '.join(key[:12] for key in unknown)}")
    colour = "yellow" if found.refused else "green"
    console.print(f"\n[bold {colour}]{escape(found.verdict)}[/]")
    for reason in found.reasons():
        console.print(f"  {escape(reason)}")


def _print_classes(console: Console, judged: JudgedSource) -> None:
    """Print the numbers of kept images by class and split; of many classes, the smallest."""
    from rich.cells import set_cell_size

    splits = [split for split, counts in judged.summary["by_split"].items() if any(counts.values())]
    rows = {
        name: [judged.summary["by_split"][split][name] for split in splits]
        for name in judged.scan.vocabulary
    }
    totals = [sum(column) for column in zip(*rows.values(), strict=True)]
    last = f"all {len(rows):,} classes"
    if len(rows) > _MOST_CLASSES:
        fewest = sorted(rows, key=lambda name: sum(rows[name]))[:_FEWEST_CLASSES]
        rows = {name: rows[name] for name in fewest}
        last += f", of which the {_FEWEST_CLASSES} smallest are shown"
    width = min(_NAME_WIDTH, max(map(len, [*rows, last])))
    lines = [("class", splits)]
    for name, counts in [*rows.items(), (last, totals)]:
        lines.append((name, [f"{count:,}" for count in counts]))
    for name, cells in lines:
        columns = "".join(f" {cell:>10}" for cell in cells)
        console.print(f"  {escape(set_cell_size(name, width))}{columns}")


def _print_findings(console: Console, judged: JudgedSource) -> None:
    """Print what happens to files, why, to how many, and an example."""
    from imgpipe.components.report.check_page import findings

    for fate, rows in findings(judged).items():
        counts = collections.Counter(str(row["reason"]) for row in rows)
        for reason, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            first = next(row for row in rows if row["reason"] == reason)
            _print_row(console, fate, reason, count, f"{first['path']}: {first['detail']}")
    for note in judged.summary["notes"]:
        example = ": ".join(filter(None, (note["paths"][0], note["detail"])))
        _print_row(console, "noted", note["kind"], note["count"], example)
    console.print()


def _print_row(console: Console, fate: str, reason: str, count: int, example: str) -> None:
    columns = f"[{_STYLES[fate]}]{fate:<9}[/] {escape(reason):<24} {count:>8,}"
    console.print(f"{columns}  [dim]{escape(example)}[/]")


def page(found: ExaminedSource) -> str:
    """Draw the page of a check as one HTML file.

    Args:
        found: The result of `examine`, with the images.
    """
    from imgpipe.components.report.check_page import render
    from imgpipe.components.report.section import RunState

    status = "refused" if found.refused else found.verdict.split(":", 1)[0]
    settings = {
        "name": "imgpipe check",
        "source": found.judged.scan.source,
        "vocabulary": list(found.judged.scan.vocabulary),
    }
    state = RunState(status, found.verdict)
    return render(found.judged, found.images, state, settings, found.reasons())
