"""Tests of the progress display, on a pseudo-terminal and together with `--json -`."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from rich.console import Console

from imgpipe.models.machine import progress
from imgpipe.pipeline.command_line import console

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Shows long rows, while a library writes to standard error.
_PROGRAM = """
import sys, time
from pathlib import Path
from imgpipe.pipeline.command_line import console as consoles
with consoles.quiet(Path(sys.argv[1])) as console, consoles.Display(console) as display:
    with display.step("loading TensorFlow, TFX"):
        print("WARNING: said by a library", file=sys.stderr)
        for _ in range(30):
            display.advance(123_456, "files of a unit with a long name")
            display.advance(123_456, "another unit with a long name")
            time.sleep(0.03)
"""


def on_terminal(program: list[str], columns: int) -> str:
    """Run a program on a pseudo-terminal of `columns` characters and return what it prints."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment["TERM"] = "xterm"
    process = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    received = b""
    try:
        while chunk := os.read(ours, 65536):
            received += chunk
    except OSError:  # the program closed its side
        pass
    os.close(ours)
    assert process.wait(60) == 0, received.decode()
    return received.decode()


def test_rows_fit_a_narrow_terminal_and_output_of_libraries_goes_to_the_log(tmp_path: Path):
    received = on_terminal([sys.executable, "-c", _PROGRAM, str(tmp_path)], columns=60)
    lines = re.split(r"[\r\n]+", _ESCAPES.sub("", received))
    assert any("Loading TensorFlow, TFX" in line for line in lines)
    assert max(map(len, lines)) <= 60, "a longer line wraps, and the next frame repeats it"
    assert "WARNING" not in received
    assert "said by a library" in (tmp_path / "run.log").read_text()


def test_silent_threads_do_not_change_the_counts_of_a_step(tmp_path: Path):
    printed = io.StringIO()
    display = console.Display(Console(file=printed, width=100))
    with display, progress.shown_by(display):
        with display.step("loading"):

            def scan() -> None:
                with progress.silent():
                    progress.total(330, "files")
                    progress.advance(330, "files")

            thread = threading.Thread(target=scan)
            thread.start()
            thread.join()
        with contextlib.suppress(OSError), display.step("FeatureBank"):
            progress.total(1240, "images")
            raise OSError
        with display.step("ImageFilter"):
            progress.total(1240, "images")
    loading, bank, filtered = printed.getvalue().splitlines()
    assert "files" not in loading
    assert "0 of 1,240 images" in bank, "a step that has only begun says how much there is to do"
    # Workers on other hosts report no counts, but a step that ended has done all.
    assert filtered.endswith(" s  1,240 images")


class _Clock:
    """A display of 80 columns that is drawn when it is asked for, and the time that it reads."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.display = console.Display(
            Console(
                file=io.StringIO(),
                width=80,
                force_terminal=True,
                force_interactive=False,
                get_time=lambda: self.now,
            )
        )

    def rows(self) -> list[str]:
        """Return the lines that a terminal shows."""
        with self.display.console.capture() as capture:
            self.display.console.print(self.display._steps)
        return [line.rstrip() for line in _ESCAPES.sub("", capture.get()).splitlines()]


def test_time_left_is_at_least_a_second_and_of_the_minutes_given():
    clock = _Clock()
    with progress.shown_by(clock.display), progress.step("ImageTrainer"):
        progress.total(400)
        progress.advance(4)
        assert "0.0 s  4 of 400 images" in clock.rows()[-1], "a rate needs two counts"
        clock.now += 3
        progress.advance(96)
        assert "3.0 s  10 s left, 100 of 400 images" in clock.rows()[-1]
        clock.now += 9
        progress.advance(299)
        assert "1 s left, 399 of 400 images" in clock.rows()[-1]
        progress.advance(1)
        assert "left" not in clock.rows()[-1], "what follows has not said how long it takes"
        progress.total(600)  # another network reads its images
        progress.advance(100)
        clock.now += 4
        progress.advance(200)
        assert "6 s left, 300 of 600 images" in clock.rows()[-1], "each image is counted once"
        progress.part("fold 2 of 5", 60)
        clock.now += 48
        assert "about 12 s left, fold 2 of 5" in clock.rows()[-2]
        progress.advance(300)
        progress.total(4, "epochs")
        assert "fold 2 of 5, 0 of 4" in clock.rows()[-2], "done images are forgotten"


def test_an_estimate_is_counted_down_and_nothing_is_cut_off_at_80_columns():
    clock = _Clock()
    with progress.shown_by(clock.display), progress.step("ImageTrainer"):
        progress.part("fold 2 of 3", 222)
        progress.total(600)
        progress.advance(10)
        clock.now += 1
        progress.advance(153)
        assert clock.rows() == [
            " … Train the model               1.0 s  about 4 min left, fold 2 of 3, 163 of",
            "                                        600 images (153/s)",
        ]
        clock.now += 301
        assert "302.0 s  it takes longer than estimated," in clock.rows()[0]
    assert clock.rows() == [" ✓ Train the model             302.0 s  163 of 600 images"]
    with progress.shown_by(clock.display), progress.step("ImageEvaluator"):
        progress.advance(100)
        clock.now += 2
    assert clock.rows()[-1] == " ✓ Evaluate the model            2.0 s  100 images (50/s)"
