"""Writes the licences of the locked packages for this system as a Markdown table.

Usage: ``python packaging/licenses.py requirements.txt LICENSES.md``. The packages have to be
installed in the environment that runs it, because their own metadata is what is read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

_SOURCES = Path(__file__).resolve().parent.parent / "src"
#: Packages whose metadata names no licence, with the one in the LICENSE file they ship. Those with
#: the weights of backbones are declared beside their backbones.
_STATED_IN_THEIR_FILES = {"namex": "Apache-2.0"}


def licences_of_weights() -> dict[str, str]:
    """Return the licences of the packages with the weights of backbones, by package."""
    from imgpipe.models.backbones import registry

    packages = registry.packaged_weights().values()
    return {package.distribution: package.license for package in packages}


def _names(requirements: Path) -> list[str]:
    """Return the names of the pinned packages for this system and this Python."""
    lines = re.findall(r"^[\w.-]+==[^\\\n]*", requirements.read_text(), flags=re.MULTILINE)
    pins = [Requirement(line) for line in lines]
    return [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()]


def table(requirements: Path) -> str:
    """Return the table of the packages that a requirements file pins.

    Args:
        requirements: Requirements file with one ``name==version`` a line; hashes are ignored.

    Raises:
        SystemExit: A package states no licence, or is not installed.
    """
    names = _names(requirements)
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json"]
    installed = json.loads(
        subprocess.check_output([*command, "--with-system", "--packages", *names], text=True)
    )
    stated = _STATED_IN_THEIR_FILES | licences_of_weights()
    rows = []
    unknown = []
    for package in installed:
        name = package["Name"]
        # Some packages put the whole text of their licence into the field; its first line names it.
        licence = package["License"].strip().splitlines()[0]
        if licence == "UNKNOWN":
            licence = stated.get(name, "")
        if not licence:
            unknown.append(name)
        rows.append(f"| {name} | {package['Version']} | {licence} |")
    if unknown:
        sys.exit(
            f"No licence is known for {', '.join(unknown)}. Read the LICENSE file of each package "
            f"and add its licence to {Path(__file__).name}."
        )
    if len(rows) != len(names):
        sys.exit(
            f"{requirements} pins {len(names)} packages, but {len(rows)} of them are installed. "
            "Install them all first, with `uv sync`."
        )
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows])


if __name__ == "__main__":
    sys.path.insert(0, str(_SOURCES))  # these sources, even if others are installed
    Path(sys.argv[2]).write_text(table(Path(sys.argv[1])) + "\n")
