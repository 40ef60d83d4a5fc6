"""Commands that unpack archives, for messages about what is not read while it is packed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
#: Commands by the ending of an archive's name.
_COMMANDS = {
    ".zip": "python3 -m zipfile -e {archive} {folder}",
    **dict.fromkeys(_TARS, "mkdir -p {folder} && tar -xf {archive} -C {folder}"),
    **dict.fromkeys((".7z", ".rar"), "7z x {archive} -o{folder}"),
}
ENDINGS = tuple(_COMMANDS)
FOLDER = "unpacked"


def command(archive: str, folder: str = FOLDER) -> str:
    """Return the command that unpacks an archive, with one of the `ENDINGS`, into a folder."""
    return _COMMANDS[_ending(archive)].format(
        archive=shlex.quote(archive), folder=shlex.quote(folder)
    )


def advice(source: Path, archives: Sequence[str] = ()) -> str:
    """Say how to unpack a source, if it is an archive, and all archives in it.

    Args:
        source: A folder, or an archive of archives, which is unpacked first.
        archives: Paths in the source. Each is unpacked into a folder of its name, because archives
            of classes hold files of the same names.
    """
    if not source.exists():
        return "Copy it to this machine, and unpack it"  # from an object store
    around = str(source) if source.is_dir() else FOLDER
    first = [] if source.is_dir() else [command(str(source))]
    inside = [
        command(f"{around}/{path}", f"{FOLDER}/{path[: -len(_ending(path))]}") for path in archives
    ]
    steps = " && ".join([*first, *inside, f"imgpipe check {FOLDER}"])
    program = " with 7-Zip" if "7z x " in steps else ""
    return f"Unpack it{program}: {steps}"


def _ending(archive: str) -> str:
    return max((ending for ending in ENDINGS if archive.lower().endswith(ending)), key=len)
