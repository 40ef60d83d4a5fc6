"""A check is one file.

Its measurement, threshold and finding are registered everywhere without other changes.
"""

from __future__ import annotations

import textwrap

import pytest

from tests import python_program

CHECK = """
from imgpipe.components.image_file.pixels import Measurement
from imgpipe.components.image_filter.check import Check, Finding

def judge(record, settings):
    red = record.figures.get("redness", 0.0)
    return Finding("too_red", f"{red:.2f}") if red > CHECK.threshold_in(settings) else None

CHECK = Check(
    "too_red", 205, "pixels", judge, "show something else", severity="warn",
    may_be=("warn", "reject", "ignore"), finds="Red",
    measurement=Measurement("redness", lambda pixels: pixels.values[..., 0].mean() / 255),
    threshold=0.5, about="mean of the red channel",
)
"""


@pytest.mark.slow
def test_a_check_with_a_new_measurement_needs_only_its_own_file(tmp_path, encode):
    """The check is added to the package in a process of its own."""
    (tmp_path / "too_red.py").write_text(CHECK)
    (tmp_path / "red.png").write_bytes(encode("PNG"))
    program = textwrap.dedent(
        f"""
        import importlib.util, sys
        folder = importlib.util.find_spec("imgpipe.components.image_filter.checks")
        checks = importlib.util.module_from_spec(folder)
        checks.__path__.append({str(tmp_path)!r})
        sys.modules[folder.name] = checks
        folder.loader.exec_module(checks)
        from pathlib import Path
        from imgpipe.components.example_gen.inspection import inspect
        from imgpipe.components.example_gen.sources.base import Item
        from imgpipe.components.image_filter.decision import decide
        from imgpipe.components.image_record import ImageRecord
        class Memory:
            def read(self, item):
                return Path({str(tmp_path)!r}, item.path).read_bytes()
        (record,) = inspect(Memory(), [Item("red.png", "a")], 10**6, vocabulary=("a",))
        record = ImageRecord.from_example(record.to_example())
        settings = checks.Settings(threshold={{"too_red": 0.1}})
        checks.validate(settings)
        print([found.reason for found in decide(record, settings).warnings])
        print("redness" in record.figures, "redness" in checks.METADATA, checks.CHOICES["too_red"])
        """
    )
    warned, tables = python_program.printed(program).splitlines()[-2:]
    assert "too_red" in warned and tables.startswith("True True Choice(usual='warn'")
