"""Access log: one line with a JSON object for every inference request.

    {"time": "2026-01-31T12:00:00.123Z", "method": "Predict", "entrypoint": "GRPC", "peer":
     "ipv4:127.0.0.1:40112", "model": "imgpipe", "version": 3, "signature": "serving_default",
     "rows": 1, "request_bytes": 48211, "status": "OK", "ms": 12.4, "model_ms": 11.1}

Failed requests also have the field ``message``.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.monitoring.log_format import utc_text
from imgpipe.serving.server.requests.calls import Call
from imgpipe.serving.server.status import truncate

STDERR = "-"


class AccessLog:
    """Observer of ``calls.Calls`` that writes the log; safe for use from several threads."""

    def __init__(self, path: str) -> None:
        """Open the log.

        Args:
            path: File to append to, or ``-`` for standard error.

        Raises:
            BadArgument: The file cannot be written.
        """
        self._lock = threading.Lock()
        if path == STDERR:
            self._file = sys.stderr
            return
        try:
            self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - until close()
        except OSError as error:
            raise BadArgument(f"Cannot write the access log {path}: {error.strerror}.") from error

    def __call__(self, call: Call) -> None:
        """Write one line."""
        line = {
            "time": utc_text(call.started),
            "method": call.method,
            "entrypoint": call.entrypoint,
            "peer": call.peer,
            "model": truncate(call.model),
            "version": call.version,
            "signature": truncate(call.signature),
            "rows": call.rows,
            "request_bytes": call.request_bytes,
            "status": call.status,
            "ms": round(call.seconds * 1000, 3),
            "model_ms": round(call.run_seconds * 1000, 3),
        }
        if call.message:
            line["message"] = call.message
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with self._lock:
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not sys.stderr:
            self._file.close()
