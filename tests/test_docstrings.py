"""Checks that the docstrings of public functions say which errors the functions raise.

Ruff has a rule for this, DOC501, but it takes `raise invalid(...)` for an exception of the name
`invalid`. Many errors of the package are built by such functions, so the tests check it instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("components", "models", "pipeline", "serving")
#: Not checked: commands, whose docstrings are the texts of `--help`.
LEFT_OUT = ("pipeline/commands/",)


def _public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the public functions of a module and the public methods of its public classes."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    bodies = [tree.body, *(node.body for node in classes if not node.name.startswith("_"))]
    for node in (node for body in bodies for node in body):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function and not node.name.startswith("_"):
            yield node


def _raises(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function raises an error itself, other than one that it caught."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        error = node.exc if isinstance(node, ast.Raise) else None
        if error is not None and not (isinstance(error, ast.Name) and error.id.islower()):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            nodes += ast.iter_child_nodes(node)
    return False


def missing(path: Path) -> list[str]:
    """Return the names of the public functions of a module that raise undocumented errors.

    A function that only its own folder calls may name the error in a sentence.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [one for one in _public(tree) if _raises(one)]
    documents = {one.name: ast.get_docstring(one) or "" for one in found}
    named = re.compile(r"Raises:|(Error|Refused)\b")
    return [name for name, text in documents.items() if not named.search(text)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_functions_document_what_they_raise(folder: str) -> None:
    silent = {
        str(path.relative_to(ROOT)): names
        for path in (ROOT / folder).rglob("*.py")
        if not path.relative_to(ROOT).as_posix().startswith(LEFT_OUT)
        if (names := missing(path))
    }
    assert not silent
