"""The commands that a person can copy after a run."""

from __future__ import annotations

import shlex

SERVED_NAME = "imgpipe"  # default of run.name, and of --model of `imgpipe serve`
_VERSIONS = "model"  # default of push.directory


def serve_command(version: str, model: str) -> str:
    """Return the command that serves a published version and those after it.

    Args:
        version: Path or URI of the version, such as ``OUT/model/3``. The command names ``OUT``
            where the versions lie in its usual folder on this machine.
        model: Name of the model in requests, as in `run.name`.
    """
    base = version.rstrip("/").rpartition("/")[0] or version
    above, _, name = base.rpartition("/")
    folder = above if above and name == _VERSIONS and "://" not in base else base
    named = "" if model == SERVED_NAME else f" --model {shlex.quote(model)}"
    return f"imgpipe serve {shlex.quote(folder)}{named}"
