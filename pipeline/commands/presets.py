"""``imgpipe presets``: lists the presets."""

from __future__ import annotations

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

app = typer.Typer()

_NONE = "–"
_EXAMPLES = """Examples:\n
  imgpipe presets\n
  imgpipe run photos --preset cats_vs_dogs_inception
"""


@app.command(rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def presets() -> None:
    """List the presets with their data and the expected accuracy."""
    from imgpipe.components.report.expectation import figures
    from imgpipe.pipeline.command_line.settings import configuration, preset_folder
    from imgpipe.pipeline.command_line.settings import presets as names

    console = new_console()
    rows = [("preset", "expected", "data")]
    for name in names():
        expect = configuration(name, None, None, []).expect
        rows.append((name, figures(expect.low, expect.high) or _NONE, expect.data))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for number, (name, expected, data) in enumerate(rows):
        line = escape(f"{name:<{first}}  {expected:<{second}}  {data}")
        console.print(line if number else f"[bold]{line}[/]")
    console.print("\nRun one with: imgpipe run DIR --preset NAME. Each file explains its settings:")
    console.print(f"  {escape(str(preset_folder()))}", soft_wrap=True)
