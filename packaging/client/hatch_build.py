"""Chooses the files of imgpipe-client: the client, and every module that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = Path(__file__).resolve().parents[2] / "src"
_PACKAGE = _SOURCE / "imgpipe" / "__init__.py"  # what it imports lazily is not part of the client
_CLIENT = _SOURCE / "imgpipe" / "serving" / "client"  # with all its modules and the protos


class ClientFiles(BuildHookInterface):
    """Adds the files to the wheel, under the names that they have in imgpipe."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files before the wheel is built; hatchling calls this."""
        files = [_SOURCE / "imgpipe" / "py.typed"]
        files += [file for file in _CLIENT.iterdir() if file.is_file()]
        files += _with_imports(_CLIENT.glob("*.py"))
        for file in files:
            build_data["force_include"][str(file)] = str(file.relative_to(_SOURCE))


def _file(module: str) -> Path | None:
    """Return the file of a module or package; None when the name is neither."""
    path = _SOURCE.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    """Yield the names that a file imports from imgpipe, also in functions, with their packages.

    Imports for the type checker are left out, because they are not executed.
    """
    for node in _executed(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("imgpipe."):
                parts = name.split(".")
                yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and those below it, without the bodies of ``if TYPE_CHECKING``."""
    yield node
    skipped = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in node.orelse if skipped else ast.iter_child_nodes(node):
        yield from _executed(child)


def _with_imports(files: Iterable[Path]) -> set[Path]:
    imported_files: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in imported_files:
            imported_files.add(file)
            if file != _PACKAGE:
                waiting += filter(None, map(_file, _imports(file)))
    return imported_files
