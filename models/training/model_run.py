"""Names of the files that training writes to the ModelRun artifact. It imports nothing."""

from __future__ import annotations

from typing import Final

HISTORY_FILE: Final = "history.json"
PARITY_FILE: Final = "parity.tfrecord"
TENSORBOARD_FOLDER: Final = "tensorboard"
