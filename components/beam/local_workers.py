"""Options of the worker processes that Beam's runner starts on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path


def prepare(beam_args: Sequence[str], directory: Path) -> None:
    """Make Beam's local worker processes load what they need to unpickle TFDV's objects.

    FnApiRunner starts these processes without the options of the pipeline such as
    ``--beam_plugins`` (Beam 2.77), but they read a file that is named in their environment.

    Args:
        beam_args: Options of Beam.
        directory: Folder in which the file is written. It must exist while workers are started.
    """
    if any("multi_processing" in arg for arg in beam_args):
        file = directory / "worker_options.json"
        file.write_text(json.dumps({"beam_plugins": ["imgpipe.components.beam.beam_worker"]}))
        os.environ["PIPELINE_OPTIONS_FILE"] = str(file)
