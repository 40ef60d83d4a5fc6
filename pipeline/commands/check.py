"""``imgpipe check``: inspects the data without training anything.

It needs neither TFX nor Beam: TensorFlow decodes the images, and Pillow and numpy measure them.
"""

from __future__ import annotations

import collections
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape, printable

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.data_gate import rules
    from imgpipe.components.source_check import Judged, Plan
    from imgpipe.pipeline.configuration.config import Config

app = typer.Typer()

SCHEMA = 1  # of the file that --json writes
_STYLES = {"rejected": "red", "repaired": "green", "warned": "yellow", "noted": "dim"}
_WIDTH_PLAIN = 120  # columns when the output is not a terminal
_OF_REJECTS = ("no_images", "rejected_share")  # kinds of reasons; all others concern a class
_ADVICE = "repair or remove the files (--html shows them)"
_LINES = 40  # rows of the table, so that it fits on most terminals
_EXAMPLES = """Examples:\n
  imgpipe check photos\n
  imgpipe check photos.zip --html page.html\n
  imgpipe check photos --set gate.min_train=20 --json -
"""


@app.command(rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help=options.SOURCE_HELP)],
    config: options.ConfigOption = None,
    preset: options.PresetOption = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonListOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Report what a run would reject, repair and warn about, without training."""
    from imgpipe.pipeline.command_line.settings import configuration, one_source
    from imgpipe.pipeline.source import require_classes

    built = configuration(one_source(config, preset), data, None, settings or [])
    require_classes(built)  # before the imports, which take seconds
    found = examine(built, html_file is not None, json_file == output_files.STANDARD_OUTPUT)
    console = output_files.console_beside(json_file)
    _print(console, found)
    if html_file is not None:
        output_files.write(html_file, page(found), "--html ")
        console.print(f"  page     {escape(str(html_file))}")
    elif not json_file and _rows(found.judged):
        given = ["--config", config] if config else []
        given += ["--preset", preset] if preset else []
        for setting in settings or []:
            given += ["--set", setting]
        shown = shlex.join(["imgpipe", "check", data, *given, "--html", "check.html"])
        console.print(f"  to see these images: {escape(shown)}", soft_wrap=True)
    output_files.write_json(as_json(found), json_file)
    if found.refused:
        raise typer.Exit(DataRefused.exit_code)


@dataclasses.dataclass(frozen=True)
class Examined:
    """The result of a check.

    Attributes:
        plan: What was checked, and with which settings.
        judged: The findings.
        images: Encoded images for the page by path; empty if they were not wanted.
        refused: Why a run would refuse the data; empty if it would not.
        verdict: A sentence that begins with "clean", "usable" or "refused".
    """

    plan: Plan
    judged: Judged
    images: Mapping[str, bytes]
    refused: Sequence[rules.Reason]
    verdict: str

    def reasons(self) -> list[str]:
        """Return why a run would refuse the data in a few sentences."""
        from imgpipe.components.data_gate import rules

        return rules.summarised(rules.as_dicts(self.refused))


def examine(config: Config, with_images: bool, to_stderr: bool) -> Examined:
    """Inspect the data of a configuration.

    Args:
        config: The validated configuration.
        with_images: Whether the images of the page are read too.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        The findings and the verdict.

    Raises:
        ConfigError: The source or a setting is wrong.
    """
    plan = _plan_of(config)
    judged, images = _judge(plan, with_images, to_stderr)
    refused = _refused(judged, config)
    return Examined(plan, judged, images, refused, _verdict(judged, bool(refused)))


def _plan_of(config: Config) -> Plan:
    """Build the plan of an inspection from the settings of a run.

    The inspection cache is used only if `judge.store` names its folder, so that a check writes
    only the files that were asked for.
    """
    from imgpipe.components.image_filter import overrides
    from imgpipe.components.source_check import Plan
    from imgpipe.pipeline.inputs import judge_settings, source_options, split_rule

    return Plan(
        source=config.data.source,
        settings=judge_settings(config),
        options=source_options(config),
        rule=split_rule(config),
        overrides=overrides.load(config.overrides_file) if config.overrides_file else (),
        store=str(config.judge_store) if config.judge.store else "",
    )


def _judge(plan: Plan, with_images: bool, to_stderr: bool) -> tuple[Judged, dict[str, bytes]]:
    """Return the result and, if wanted, the images for the page; progress is displayed."""
    from imgpipe.components import source_check
    from imgpipe.models.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles

    found: dict[str, bytes] = {}
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the inspection
        with display.step("inspecting images"):
            judged = source_check.judge(plan)
        if with_images:
            from imgpipe.components.report.check_page import paths_shown

            with display.step("reading images for the page"):
                found = source_check.read_images(plan, judged, paths_shown(judged))
    return judged, found


def _refused(judged: Judged, config: Config) -> list[rules.Reason]:
    """Return why the data gate of a run would refuse the data, judging by the numbers of images.

    Schema and drift are not examined.
    """
    from imgpipe.components.data_gate import rules
    from imgpipe.pipeline.inputs import gate_settings

    demanded = gate_settings(config, judged.scan.vocabulary)
    return [
        # DataGate's advice names the quarantine, which a check does not write.
        dataclasses.replace(reason, advice=reason.advice.replace(rules.SEE_REASONS, _ADVICE))
        for reason in rules.counted(judged.summary, demanded)
    ]


def _verdict(judged: Judged, refused: bool) -> str:
    from imgpipe.components.report.text import overridden, plural

    summary = judged.summary
    images, kept, rejected = (int(summary[key]) for key in ("in", "kept", "rejected"))
    warned = len({found.path for found in judged.warnings})
    parts = [
        f"{rejected:,} rejected",
        f"{summary['repaired']:,} repaired",
        plural(warned, "image") + " with warnings",
    ]
    said = ", ".join(part for part in parts if not part.startswith("0 "))
    clauses = f"{kept:,} of {plural(images, 'image')} kept", said, overridden(summary)
    outcome = "; ".join(clause for clause in clauses if clause)
    if refused:
        return f"refused: a run would refuse this data ({outcome})"
    if clauses[1:] == ("", ""):  # nothing was found, and no label was overridden
        return f"clean: {plural(images, 'image')}, no problems found"
    return f"usable: {outcome}"


def as_json(found: Examined) -> dict[str, Any]:
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
        "thin": [r.sentence() for r in found.refused if r.kind not in _OF_REJECTS],
        **judged.summary,
        "files": {**findings(judged), "reviewed": [f.row() for f in judged.reviews]},
        "set_aside": set_aside(judged.near or ()),
        "near_duplicates": None if judged.near is None else list(judged.near),
        "seconds": round(judged.seconds, 3),
    }


def _print(console: Console, found: Examined) -> None:
    from imgpipe.components.image_filter import overrides
    from imgpipe.components.image_filter.near_groups import set_aside
    from imgpipe.components.report.text import aside, moves, plural
    from imgpipe.models import feature_names as names

    judged = found.judged
    _print_table(console, _rows(judged))
    console.print()
    for split in names.SPLITS:
        counts = judged.summary["by_split"][split]
        if any(counts.values()):
            classes = _short(", ".join(f"{name} {count:,}" for name, count in counts.items()))
            total = sum(counts.values())
            console.print(f"  {split:<10} {total:,}: {escape(classes)}")
    for line in (*moves(judged.summary["moved"]), *aside(set_aside(judged.near or ()))):
        console.print(f"  {line}")
    if proposals := len(found.plan.overrides) - len(overrides.confirmed(found.plan.overrides)):
        number = plural(proposals, "override is not", "overrides are not")
        console.print(f"  {number} confirmed, so nothing was changed")
    if unknown := judged.summary["overrides"]["unknown"]:
        console.print(f"  overrides that match no file: {', '.join(key[:12] for key in unknown)}")
    colour = "yellow" if found.refused else "green"
    console.print(f"\n[bold {colour}]{escape(found.verdict)}[/]")
    for reason in found.reasons():
        console.print(f"  {escape(reason)}")


def _print_table(console: Console, rows: Sequence[tuple[str, str, int, str]]) -> None:
    from rich.markup import escape as escape_markup

    if not rows:
        return
    widest = max(len(reason) for _, reason, _, _ in rows)
    # 21 columns for the fate, the number of files, and the spaces between.
    columns = (console.width if console.is_terminal else _WIDTH_PLAIN) - widest - 21
    console.print(f"\n[dim]{'':<9} {'reason':<{widest}} {'files':>8}  example[/]")
    for fate, reason, count, example in rows[:_LINES]:
        text = printable(example)
        text = text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"
        name = escape_markup(f"{reason:<{widest}}")
        console.print(
            f"[{_STYLES[fate]}]{fate:<9}[/] {name} {count:>8,}  [dim]{escape_markup(text)}[/]"
        )
    if len(rows) > _LINES:
        console.print(f"… and {len(rows) - _LINES} more rows; --json writes them all")


def _rows(judged: Judged) -> list[tuple[str, str, int, str]]:
    """Return the rows of the table: fate, reason, number of files, and an example."""
    from imgpipe.components.report.check_page import findings

    rows = []
    for fate, found in findings(judged).items():
        groups: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
        for row in found:
            groups[str(row["reason"])].append(row)
        for reason, group in sorted(groups.items(), key=lambda one: (-len(one[1]), one[0])):
            example = f"{group[0]['path']}: {group[0]['detail']}"
            rows.append((fate, reason, len(group), example))
    for note in judged.summary["notes"]:
        example = ": ".join(filter(None, (note["paths"][0], note["detail"])))
        rows.append(("noted", note["kind"], note["count"], example))
    return rows


def _short(text: str, length: int = 400) -> str:
    return text if len(text) <= length else text[:length].rsplit(",", 1)[0] + ", …"


def page(found: Examined) -> str:
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
