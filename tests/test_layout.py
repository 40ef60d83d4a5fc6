"""Checks the forms of the code, and that neither modules nor folders import in circles."""

import ast
import functools
import graphlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_TOP = ("models", "serving", "components", "pipeline")
#: What each folder at the top may import besides itself: other folders, or some of their modules.
_MAY_IMPORT = {
    "models": set(),
    "serving": {"models.files", "models.errors", "models.machine"},
    "components": {"models", "serving"},
    "pipeline": {"components", "models", "serving"},
}

#: Places in the code that do not have the form that they should have. A number may only fall:
#: whoever makes it smaller writes the smaller number here.
_MOST = {
    "public functions whose docstrings name none of the errors that they raise": 0,
    "public class names with several meanings": 0,
    "[str, Any] in annotations of arguments and returns": 47,
    "functions of more than 60 lines": 0,
    "functions of more than 7 parameters": 2,
    "files of more than 400 lines": 0,
    "names of files that are declared twice": 0,
    "variables and parameters whose names tell nothing": 8,
    "names of a module with several values": 0,
    "private names of one module in another": 0,
}
#: Lines of the rooms that have been written anew, with the folders and files that they are of. A
#: number may only fall.
_CEILINGS = {
    "sources": (
        5_410,
        (
            "components/example_gen",
            "components/common/image_file",
            "components/common/beam",
            "pipeline/definition/source.py",
            "pipeline/request_drift/logged_answers.py",
        ),
    ),
    "filter": (
        5_980,
        (
            "components/image_filter",
            "components/data_gate",
            "components/statistics_gen.py",
            "components/common/images.py",
            "components/common/image_row.py",
            "components/common/splits.py",
            "pipeline/data_check.py",
            "pipeline/commands/check.py",
        ),
    ),
}
#: Names that tell nothing about what they hold.
_EMPTY_NAMES = {"found", "one", "some", "there", "known", "judged", "aside"}
#: Commands, whose parameters are the options of the command line, and the one component that is a
#: class.
_DECLARES_PARAMETERS = re.compile(r"pipeline/commands/|components/.*:__init__")
#: An alias of a type, such as `JudgedBy = Literal[…]`, has a name as a class has.
_ALIAS = re.compile(r"[A-Z]\w*[a-z]\w*")
#: What a docstring says of errors: a section, or in a function of one folder a sentence.
_NAMES_AN_ERROR = re.compile(r"\bRaises?\b|Error\b|\b(DataRefused|RefusedAnswer)\b")
_FILE_NAME = re.compile(r"[\w.-]+\.(json|jsonl|toml|txt|html|pbtxt|npz|md)")


@functools.cache
def _nodes(file: Path) -> list[ast.AST]:
    """Return all nodes of the syntax tree of a file, which is parsed once for all tests."""
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def _functions() -> Iterator[tuple[str, _Function]]:
    """Yield all functions of the product, each with its place."""
    for name, file in _modules().items():
        for node in _nodes(file):
            if isinstance(node, _Function):
                where = file.relative_to(REPOSITORY).as_posix()
                yield f"{where}:{node.name} ({name})", node


def _parameters(function: _Function) -> list[ast.arg]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [one for one in every if one.arg not in ("self", "cls")]


def _declares_a_component(function: _Function) -> bool:
    """Return whether the parameters of a function are those of a component of TFX."""
    return any(ast.unparse(one).startswith("component") for one in function.decorator_list)


def _doubled_class_names() -> list[str]:
    places: dict[str, set[str]] = {}
    for module, file in _modules().items():
        for node in _nodes(file):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(module)
            alias = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(alias, ast.Name) and _ALIAS.fullmatch(alias.id):
                places.setdefault(alias.id, set()).add(module)
    return [name for name, modules in places.items() if len(modules) > 1]


def _untyped_mappings() -> list[str]:
    found = []
    for where, function in _functions():
        annotations = [one.annotation for one in _parameters(function)]
        for annotation in filter(None, [*annotations, function.returns]):
            found += [where] * ast.unparse(annotation).count("[str, Any]")
    return found


def _doubled_file_names() -> list[str]:
    places: dict[str, set[str]] = {}
    for module, file in _modules().items():
        for node in _nodes(file):
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            name = value.value if isinstance(value, ast.Constant) else None
            if isinstance(name, str) and _FILE_NAME.fullmatch(name):
                places.setdefault(name, set()).add(module)
    return [name for name, modules in places.items() if len(modules) > 1]


def _long_functions() -> list[str]:
    return [
        where
        for where, function in _functions()
        if (function.end_lineno or 0) - function.lineno >= 60
    ]


def _functions_of_many_parameters() -> list[str]:
    return [
        where
        for where, function in _functions()
        if len(_parameters(function)) > 7
        and not _DECLARES_PARAMETERS.match(where)
        and not _declares_a_component(function)
    ]


@pytest.mark.parametrize("room", _CEILINGS)
def test_a_room_grows_no_more(room: str) -> None:
    most, places = _CEILINGS[room]
    files = {file for place in places for file in (REPOSITORY / place).rglob("*.py")}
    files |= {REPOSITORY / place for place in places if place.endswith(".py")}
    lines = sum(len(file.read_bytes().splitlines()) for file in files)
    assert lines <= most, f"{room}: {lines} lines, at most {most}"


def _long_files() -> list[str]:
    lines = {name: len(file.read_bytes().splitlines()) for name, file in _modules().items()}
    return [name for name, count in lines.items() if count > 400]


def _empty_names() -> list[str]:
    places = []
    for name, file in _modules().items():
        for node in _nodes(file):
            variable = node.arg if isinstance(node, ast.arg) else ""
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                variable = node.id
            if variable in _EMPTY_NAMES:
                places.append(f"{variable} ({name})")
    return places


def _silent_functions() -> list[str]:
    """Return public functions and methods that raise an error of which their docstring is silent.

    Ruff has a rule for this, DOC501, but it takes `raise invalid(...)` for an exception of the name
    `invalid`. The docstrings of commands are the texts of `--help`.
    """
    silent = []
    for name, file in _modules().items():
        for parent in _nodes(file) if not name.startswith("pipeline.commands.") else ():
            is_public = isinstance(parent, ast.ClassDef) and not parent.name.startswith("_")
            body = parent.body if is_public or isinstance(parent, ast.Module) else []
            functions = [one for one in body if isinstance(one, _Function)]
            silent += [
                f"{name}.{function.name}"
                for function in functions
                if not function.name.startswith("_")
                and _raises(function)
                and not _NAMES_AN_ERROR.search(ast.get_docstring(function) or "")
            ]
    return silent


def _raises(function: _Function) -> bool:
    """Return whether a function raises an error itself, other than one that it caught."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        error = node.exc if isinstance(node, ast.Raise) else None
        if error is not None and not (isinstance(error, ast.Name) and error.id.islower()):
            return True
        if not isinstance(node, _Function | ast.ClassDef):
            nodes += ast.iter_child_nodes(node)
    return False


def _names_with_several_values() -> list[str]:
    """Return the names that a module gives twice, of which all functions see the last value."""
    places = []
    for module, file in _modules().items():
        given: set[str] = set()
        for statement in ast.iter_child_nodes(_nodes(file)[0]):
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            for node in [node for target in targets for node in ast.walk(target)]:
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    places += [f"{node.id} ({module})"] if node.id in given else []
                    given.add(node.id)
    return places


def _borrowed_names() -> list[str]:
    """Return the names with an underscore that a module takes from another one."""
    places = []
    for module, file in _modules().items():
        others = set()
        for node in _nodes(file):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("imgpipe"):
                names = [alias.asname or alias.name for alias in node.names]
                places += [f"{name} ({module})" for name in names if name.startswith("_")]
                others |= {name for name in names if name.islower()}
        for node in _nodes(file):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in others
                and re.match("_[^_]", node.attr)
            ):
                places.append(f"{node.value.id}.{node.attr} ({module})")
    return places


_FOUND = {
    "public class names with several meanings": _doubled_class_names,
    "[str, Any] in annotations of arguments and returns": _untyped_mappings,
    "functions of more than 60 lines": _long_functions,
    "functions of more than 7 parameters": _functions_of_many_parameters,
    "files of more than 400 lines": _long_files,
    "names of files that are declared twice": _doubled_file_names,
    "variables and parameters whose names tell nothing": _empty_names,
    "public functions whose docstrings name none of the errors that they raise": _silent_functions,
    "names of a module with several values": _names_with_several_values,
    "private names of one module in another": _borrowed_names,
}


@pytest.mark.parametrize("form", _MOST)
def test_a_form_that_is_to_go_becomes_rarer(form: str) -> None:
    found = _FOUND[form]()
    assert len(found) <= _MOST[form], f"{form}: {len(found)}, at most {_MOST[form]}: {found}"


def _modules() -> dict[str, Path]:
    """Return the files of all modules of imgpipe, by the names of the modules."""
    files = [file for top in _TOP for file in (REPOSITORY / top).rglob("*.py")]
    parts = {file: file.relative_to(REPOSITORY).with_suffix("").parts for file in files}
    return {".".join(name).removesuffix(".__init__"): file for file, name in parts.items()}


def _imports(file: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of imgpipe that a file imports, also inside functions."""
    for node in _nodes(file):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("imgpipe."):
            package = str(node.module).removeprefix("imgpipe.")
            for alias in node.names:
                name = f"{package}.{alias.name}"
                yield name if name in modules else package


@pytest.fixture(scope="module")
def arrows() -> list[tuple[str, str]]:
    """Return all imports within imgpipe, as pairs of the importing and the imported module."""
    modules = _modules()
    found = [(name, other) for name, file in modules.items() for other in _imports(file, modules)]
    assert len(found) > 500
    assert all(other in modules for _, other in found)
    return found


def _order(arrows: list[tuple[str, str]], room: Callable[[str], str]) -> list[str]:
    """Return the folders, or modules, sorted so that each comes after those that it imports.

    `room` returns the folder of a module, or the module itself. Circles are a CycleError.
    """
    graph: dict[str, set[str]] = {}
    for name, other in arrows:
        if room(name) != room(other):
            graph.setdefault(room(name), set()).add(room(other))
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_modules_have_no_circular_imports(arrows: list[tuple[str, str]]) -> None:
    # A package may import its modules while these import the package, as Python allows.
    files = [(a, b) for a, b in arrows if not a.startswith(b + ".") and not b.startswith(a + ".")]
    assert len(_order(files, lambda name: name)) > 200


def test_the_top_folders_import_only_what_they_may(arrows: list[tuple[str, str]]) -> None:
    wrong = [
        (name, other)
        for name, other in arrows
        if (top := other.split(".")[0]) != name.split(".")[0]
        and not {top, ".".join(other.split(".")[:2])} & _MAY_IMPORT[name.split(".")[0]]
    ]
    assert wrong == []


def _folder(name: str) -> str:
    """Return the folder of a module, two levels deep."""
    return ".".join(name.split(".")[:2])


def test_folders_have_no_circular_imports(arrows: list[tuple[str, str]]) -> None:
    order = _order(arrows, _folder)
    assert order.index("models.files") < order.index("models.training")
    assert order.index("models.training") < order.index("components.report")
    assert order.index("components.report") < order.index("pipeline.execution")


@pytest.mark.parametrize("folder", ["serving.server", "components.image_filter"])
def test_folders_in_a_large_folder_have_no_circular_imports(
    arrows: list[tuple[str, str]], folder: str
) -> None:
    inside = [(a, b) for a, b in arrows if _folder(a) == folder == _folder(b)]
    assert len(_order(inside, lambda name: ".".join(name.split(".")[:3]))) > 8
