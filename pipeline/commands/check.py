"""``imgpipe check``: inspects the data without training anything.

It needs neither TFX nor Beam: TensorFlow decodes the images, and Pillow and numpy measure them.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, printable

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.data_gate import rules
    from imgpipe.components.image_filter.thread_driver import Judged, Plan
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
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE|PRESET", help="Settings of the run.")
    ] = None,
    settings: options.SettingsOption = None,
    json_file: options.JsonListOption = None,
    html_file: options.HtmlOption = None,
) -> None:
    """Report what a run would reject, repair and warn about, without training."""
    raise typer.Exit(_run(data, config, settings or [], json_file, html_file))


def _run(
    data: str,
    config_file: str | None,
    settings: Sequence[str],
    json_file: str | None,
    html_file: Path | None,
) -> int:
    """Inspect the data, print the findings and write the files; returns the exit code."""
    from imgpipe.components.data_gate import rules
    from imgpipe.components.image_filter import overrides
    from imgpipe.pipeline.command_line import json_file as json_files
    from imgpipe.pipeline.command_line.settings import configuration
    from imgpipe.pipeline.source import opened

    config = configuration(config_file, data, None, settings)
    json_files.check_folder("--json", json_file)
    json_files.check_folder("--html", html_file)
    opened(config).listing()  # reports a wrong source before the imports, which take seconds
    found = examine(config, html_file is not None, json_file == json_files.STANDARD_OUTPUT)
    console = json_files.console_beside(json_file)
    sentences = rules.summarised(rules.as_dicts(found.refused))
    proposals = len(found.plan.overrides) - len(overrides.confirmed(found.plan.overrides))
    _print(console, found.judged, found.verdict, sentences, proposals)
    if html_file is not None:
        json_files.write_file(html_file, page(found), "--html ")
        console.print(f"  page     {escape(str(html_file))}")
    elif not json_file and _rows(found.judged):
        shown = f"imgpipe check {shlex.quote(data)} --html check.html"
        console.print(f"  to see these images: {escape(shown)}", soft_wrap=True)
    if json_file:
        json_files.write(as_json(found.judged, found.verdict, found.refused), json_file)
    return DataRefused.exit_code if found.refused else 0


@dataclasses.dataclass(frozen=True)
class Examined:
    """The result of a check.

    Attributes:
      plan: What was checked, and with which settings.
      judged: The findings.
      images: Encoded images for the page by path; empty if they were not wanted.
      refused: Why a run would refuse the data; empty if it would not.
      verdict: The sentence of `sentence`.
    """

    plan: Plan
    judged: Judged
    images: Mapping[str, bytes]
    refused: Sequence[rules.Reason]
    verdict: str


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
    refused = reasons(judged, config)
    return Examined(plan, judged, images, refused, sentence(judged, refused))


def _plan_of(config: Config) -> Plan:
    """Build the plan of an inspection from the settings of a run.

    The inspection cache is used only if `judge.store` names its folder, so that a check writes
    only the files that were asked for.
    """
    from imgpipe.components.image_filter import overrides
    from imgpipe.components.image_filter.thread_driver import Plan
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
    from imgpipe.components.image_filter import thread_driver
    from imgpipe.models import progress
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.output import temporary

    found: dict[str, bytes] = {}
    with temporary.folder() as folder:
        log = folder / "log"
        with consoles.quiet(log, to_stderr) as console, consoles.Display(console) as display:
            progress.attach(display)
            try:
                with display.step("loading TensorFlow"):
                    import tensorflow  # noqa: F401  # so that the next step's rate is that of the inspection

                    gc.freeze()  # the garbage collector skips TensorFlow's million objects
                with display.step("inspecting images"):
                    judged = thread_driver.judge(plan)
                if with_images:
                    from imgpipe.components.report.check_page import paths_shown

                    with display.step("reading images for the page"):
                        found = thread_driver.read_images(plan, judged, paths_shown(judged))
            finally:
                progress.attach(None)
    return judged, found


def reasons(judged: Judged, config: Config) -> list[rules.Reason]:
    """Return why the data gate of a run would refuse the data, judging by the numbers of images.

    Args:
      judged: Result of the checks.
      config: The validated configuration, which holds the limits of the gate.

    Returns:
      The reasons; empty when these limits are met. Schema and drift are not examined.
    """
    from imgpipe.components.data_gate import rules
    from imgpipe.pipeline.inputs import gate_settings

    demanded = gate_settings(config, judged.scan.vocabulary)
    return [
        # DataGate's advice names the quarantine, which a check does not write.
        dataclasses.replace(reason, advice=reason.advice.replace(rules.SEE_REASONS, _ADVICE))
        for reason in rules.counted(judged.summary, demanded)
    ]


def sentence(judged: Judged, refused: Sequence[rules.Reason]) -> str:
    """Return the verdict as one line.

    Args:
      judged: Result of the checks.
      refused: Why a run would refuse the data.

    Returns:
      A sentence that begins with "clean", "usable" or "refused".
    """
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


def as_json(judged: Judged, verdict: str, refused: Sequence[rules.Reason]) -> dict[str, Any]:
    """Build what `--json` writes; `imgpipe.pipeline.json_formats` declares it.

    Args:
      judged: Result of the checks.
      verdict: The sentence of `sentence`.
      refused: Why a run would refuse the data.
    """
    from imgpipe.components.image_filter.near_duplicates.groups import set_aside
    from imgpipe.components.report.check_page import findings

    return {
        "schema": SCHEMA,
        "source": judged.scan.source,
        "classes": list(judged.scan.vocabulary),
        "refused": bool(refused),
        "verdict": verdict,
        "reasons": [reason.sentence() for reason in refused],
        "thin": [r.sentence() for r in refused if r.kind not in _OF_REJECTS],
        **judged.summary,
        "files": {**findings(judged), "reviewed": [f.row() for f in judged.reviews]},
        "set_aside": set_aside(judged.near or ()),
        "near_duplicates": None if judged.near is None else list(judged.near),
        "seconds": round(judged.seconds, 3),
    }


def _print(
    console: Console, judged: Judged, verdict: str, refused: Sequence[str], proposals: int
) -> None:
    from imgpipe.components.image_filter.near_duplicates.groups import set_aside
    from imgpipe.components.report.text import aside, moves, plural
    from imgpipe.models import feature_names as names

    colour = "yellow" if refused else "green"
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
    if proposals:
        number = plural(proposals, "override is not", "overrides are not")
        console.print(f"  {number} confirmed, so nothing was changed")
    if unknown := judged.summary["overrides"]["unknown"]:
        console.print(f"  overrides that match no file: {', '.join(key[:12] for key in unknown)}")
    console.print(f"\n[bold {colour}]{escape(verdict)}[/]")
    for reason in refused:
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
        rows += _counted(fate, found)
    for note in judged.summary["notes"]:
        rows.append(("noted", note["kind"], note["count"], note["paths"][0]))
    return rows


def _counted(fate: str, found: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int, str]]:
    groups: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for row in found:
        groups[str(row["reason"])].append(row)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [
        (fate, reason, len(rows), f"{rows[0]['path']}: {rows[0]['detail']}")
        for reason, rows in ordered
    ]


def _short(text: str, length: int = 400) -> str:
    return text if len(text) <= length else text[:length].rsplit(",", 1)[0] + ", …"


def page(found: Examined) -> str:
    """Draw the page of a check as one HTML file.

    Args:
      found: The result of `examine`, with the images.
    """
    from imgpipe.components.data_gate import rules
    from imgpipe.components.report.check_page import render
    from imgpipe.components.report.section import RunState

    status = "refused" if found.refused else found.verdict.split(":", 1)[0]
    settings = {
        "name": "imgpipe check",
        "source": found.judged.scan.source,
        "vocabulary": list(found.judged.scan.vocabulary),
    }
    state = RunState(status, found.verdict)
    sentences = rules.summarised(rules.as_dicts(found.refused))
    return render(found.judged, found.images, state, settings, sentences)
