"""Tests that no code that decides a stored result can change without changing its fingerprint."""

import ast
import shutil
from pathlib import Path

import pytest

from imgpipe.components.example_gen import inspection
from imgpipe.models.features import extractor
from imgpipe.models.files import source_code

#: What code that decides a stored result may import without depending on it: errors, names of types
#: and features, settings, whose values are in the keys themselves, and files, whose content is;
#: what the machine has, which decides precision, also in the keys, and how far the work is.
_DECIDE_NOTHING = (
    *("models/errors.py", "models/files", "models/machine", "models/settings"),
    *("models/names.py", "models/arrays.py"),
    *("models/__init__.py", "components/__init__.py", "serving/__init__.py"),
    "models/network/__init__.py",
    *("components/common/__init__.py"),
    *("components/common/image_row.py", "components/common/formatting.py"),
    *("components/common/splits.py", "components/image_filter/judge/overrides.py"),
)


def _imports(file: Path) -> set[Path]:
    """Return the files of the package that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("imgpipe."):
            module = source_code.ROOT.joinpath(*str(node.module).split(".")[1:])
            for name in (module, *(module / alias.name for alias in node.names)):
                found |= {name.with_suffix(".py"), name / "__init__.py"}
    return {file for file in found if file.is_file()}


def _below(file: Path, paths: tuple[str, ...]) -> bool:
    return any(file.is_relative_to(source_code.ROOT / path) for path in paths)


@pytest.mark.parametrize("code", [extractor.CODE, inspection.CODE])
def test_the_code_of_a_store_names_all_that_it_imports(code: tuple[str, ...]) -> None:
    roots = [source_code.ROOT / path for path in code]
    assert all(path.exists() for path in roots)
    files = [file for path in roots for file in ([path] if path.is_file() else path.rglob("*.py"))]
    imported = {other for file in files for other in _imports(file)}
    missing = [one for one in imported if not _below(one, (*code, *_DECIDE_NOTHING))]
    assert sorted(map(str, missing)) == []


def test_libraries_that_decide_stored_results_are_part_of_the_fingerprint():
    """SciPy solves every head, and simplejpeg decides which images are damaged."""
    assert {"numpy", "scipy", "tensorflow", "pillow", "simplejpeg"} <= set(source_code.LIBRARIES)


@pytest.mark.parametrize("file", ["models/preprocess.py", "components/serving_validator.py"])
def test_changed_code_changes_the_fingerprint(tmp_path, monkeypatch, file: str) -> None:
    for folder in source_code.PACKAGE:
        shutil.copytree(source_code.ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(source_code, "ROOT", tmp_path)
    source_code.fingerprint.cache_clear()
    before = source_code.fingerprint()
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes() + b"\n# changed\n")
    source_code.fingerprint.cache_clear()
    assert source_code.fingerprint() != before
    monkeypatch.undo()
    source_code.fingerprint.cache_clear()
