"""The log as JSON has one complete object per line, whatever a message contains."""

from __future__ import annotations

import json

from tests import python_program

PROGRAM = """
import logging
from imgpipe.serving.server.monitoring import log_format
log_format.set_up({!r})
log = logging.getLogger("some.where")
log.info("listening on %s", "127.0.0.1:8500")
try:
    raise ValueError("two\\nlines \u00fc")
except ValueError:
    log.exception("internal error")
"""


def logged(name: str) -> list[str]:
    """Return the lines that ``PROGRAM`` logs in a format."""
    return python_program.ended(PROGRAM.format(name)).stderr.splitlines()


def test_the_json_format_has_one_object_per_line():
    listening, failed = map(json.loads, logged("json"))
    assert listening.pop("time").endswith("Z")
    assert listening == {
        "level": "INFO",
        "logger": "some.where",
        "message": "listening on 127.0.0.1:8500",
    }
    assert failed["level"] == "ERROR" and failed["message"] == "internal error"
    assert failed["exception"].endswith("ValueError: two\nlines \u00fc")


def test_the_text_format_has_level_and_message():
    assert logged("text")[0].endswith(" I listening on 127.0.0.1:8500")
