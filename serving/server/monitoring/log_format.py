"""Format of the server's log: text for people, or one JSON object per line for programs.

    {"time": "2026-01-31T12:00:00.123Z", "level": "INFO", "logger": "imgpipe.serving.server.server",
     "message": "listening on 127.0.0.1:8500"}

A traceback is in the field ``exception``. The access log is written to a separate file.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys

FORMATS = ("text", "json")


def utc_text(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, such as ``2026-01-31T12:00:00.123Z``."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """Formats each record as one line with a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {
            "time": utc_text(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(log_format: str) -> None:
    """Write the log to standard error in one of ``FORMATS``."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname).1s %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
