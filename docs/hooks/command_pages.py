"""The reference of the commands and of the exit codes, from the command line itself."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

HEADING = """# Commands

This page is generated from the command line itself. `imgpipe COMMAND --help` prints the same text
in a terminal. Every command that reads an output folder accepts `OUT`; [Concepts](../concepts.md)
explains what it contains.
"""


def commands() -> str:
    """Return the page of all commands, with their arguments, options, defaults and examples."""
    import typer

    from imgpipe.pipeline.application import app

    group = typer.main.get_command(app)
    parts = [HEADING, _overview(group)]
    parts += [_command(name, command) for name, command in _leaves(group, "imgpipe")]
    return "\n".join(parts)


def exit_codes() -> str:
    """Return the page of the exit codes, from the classes that carry them."""
    from imgpipe.models import errors

    rows = {
        0: "The command did what it was asked. A run was blessed and published.",
        1: "A defect of imgpipe. The log in the folder of the run holds the traceback.",
        3: "The run finished, and the model was not blessed, or not published, because a rollback "
        "has withdrawn it or the version that it was compared with is no longer the served one. "
        "The previous version stays served. "
        "`imgpipe evaluate` ends with it below its threshold, and `imgpipe export` if the file "
        "would answer differently.",
        130: "Interrupted by Ctrl-C. Finished work is kept.",
        143: "Stopped by SIGTERM. Finished work is kept. `imgpipe serve`, which runs until it is "
        "stopped, ends with 0.",
    }
    for error in (errors.ConfigError, errors.DataRefused, errors.ResourceError):
        rows[error.exit_code] = " ".join((error.__doc__ or "").split())
    rows[2] += (
        " `imgpipe predict` and `imgpipe explain` end with it if some of the files are no images; "
        "they have answered for the others."
    )
    rows[4] += " `imgpipe check` ends with it where a run would, and `imgpipe drift` for drift."
    table = "\n".join(f"| `{code}` | {text} |" for code, text in sorted(rows.items()))
    return (
        "# Exit codes\n\nEvery command ends with one of these codes, so that a script can tell a "
        "refusal from a mistake.\n\n| code | meaning |\n|---|---|\n" + table + "\n"
    )


def _leaves(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the commands without subcommands with their full names, in the order of the names."""
    for name, command in sorted(group.commands.items()):
        if getattr(command, "hidden", False):
            continue
        if getattr(command, "commands", None):
            yield from _leaves(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _overview(group: Any) -> str:
    lines = ["| command | what it does |", "|---|---|"]
    for name, command in _leaves(group, "imgpipe"):
        anchor = name.replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_summary(command)} |")
    return "\n".join(lines) + "\n"


def _summary(command: Any) -> str:
    """Return the first paragraph of the help of a command."""
    return cell((command.help or "").strip().split("\n\n")[0])


def _command(name: str, command: Any) -> str:
    parts = [f"## `{name}`", cell(command.help)]
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option" and one.name != "help"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_metavar, arguments)])
    parts.append(f"```text\n{usage}\n```")
    if shown:
        rows = [f"| `{_metavar(one)}` | {cell(one.help)} | {_default(one)} |" for one in arguments]
        rows += [f"| {_option(one)} | {cell(one.help)} | {_default(one)} |" for one in options]
        parts.append(
            "\n".join(["| argument or option | meaning | default |", "|---|---|---|", *rows])
        )
    if examples := re.findall(r"^\s*(imgpipe .+?)\s*$", command.epilog or "", flags=re.M):
        parts.append("Examples:\n\n```text\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts) + "\n"


def cell(text: str | None) -> str:
    """Return a text on one line, without characters that Markdown reads in a table."""
    words = " ".join((text or "").split()).replace("|", "\\|")
    parts = words.split("`")  # every second one is code, which is read as it is
    parts[::2] = [html.escape(part, quote=False).replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _metavar(parameter: Any) -> str:
    """Return the placeholder of an argument, as the help shows it."""
    return str(parameter.metavar or parameter.name).replace("|", "/")


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    takes_value = not getattr(option, "is_flag", False) and option.metavar
    value = str(option.metavar or "").replace("|", "\\|")
    return f"{names} `{value}`" if takes_value else names


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if callable(value) or value in (None, "", (), []) or isinstance(value, bool):
        return "" if value is not True else "on"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return f"`{value}`"
