"""Commands that unpack archives, for messages about what is not read while it is packed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_SEVEN_ZIP = "7z x {archive} -o{folder}"  # the command of 7-Zip and of p7zip
#: Commands by the ending of an archive's name.
_COMMANDS = {
    ".zip": "python3 -m zipfile -e {archive} {folder}",
    **dict.fromkeys(_TARS, "mkdir -p {folder} && tar -xf {archive} -C {folder}"),
    **dict.fromkeys((".7z", ".rar"), _SEVEN_ZIP),
}
ENDINGS = tuple(_COMMANDS)
FOLDER = "unpacked"


def command(archive: str, folder: str = FOLDER) -> str:
    """Return the command that unpacks an archive, with one of the `ENDINGS`, into a folder."""
    return _COMMANDS[_ending(archive)].format(
        archive=shlex.quote(archive), folder=shlex.quote(folder)
    )


def commands(source: Path, archives: Sequence[str]) -> str:
    """Return the commands that unpack all archives in a source, and check what was in them.

    Args:
        source: A folder, or an archive of archives, which is unpacked first.
        archives: Paths in the source. Each is unpacked into a folder of its name, because archives
            of classes hold files of the same names.
    """
    around = str(source) if source.is_dir() else FOLDER
    first = [] if source.is_dir() else [command(str(source))]
    inside = [
        command(f"{around}/{path}", f"{FOLDER}/{path[: -len(_ending(path))]}") for path in archives
    ]
    return " && ".join([*first, *inside, f"imgpipe check {FOLDER}"])


def _ending(archive: str) -> str:
    return max((one for one in ENDINGS if archive.lower().endswith(one)), key=len)
