"""Code: the fingerprint of the package's own, and the functions of a user's modules.

Components that TFX caches depend on `fingerprint()`, which covers the whole package, so that no
list of files has to follow code that moves. The stores of features and of inspected files outlive
a change elsewhere; they name the code that decides them, and
`tests/models/files/test_source_code.py` follows its imports.

A function is named as `module:function`, as web servers name an application. What it makes is part
of the keys of stored results by the fingerprint of its source.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from imgpipe.models.errors import ConfigError

#: Folder of the installed package, or of the repository.
ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ("pipeline", "components", "models", "serving")
#: They decode, compute, describe and evaluate; another version may do so differently.
LIBRARIES: Final = (
    *("tensorflow", "keras", "numpy", "scipy", "pillow", "simplejpeg", "tfx", "apache-beam"),
    *("tensorflow-data-validation", "tensorflow-model-analysis", "pi-heif"),
)
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})  # folders of packages


@functools.cache
def fingerprint(paths: tuple[str, ...] = PACKAGE, libraries: tuple[str, ...] = LIBRARIES) -> str:
    """Compute the fingerprint of source code: 16 hexadecimal digits.

    Args:
        paths: Files and folders, relative to the root of the package; all of it by default.
        libraries: Packages whose versions are part of the fingerprint. One that is not installed
            counts too, because it may be installed later.
    """
    digest = hashlib.sha256()
    for relative in paths:
        path = ROOT / relative
        # Sorted, since the order in which a folder is listed depends on the file system.
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(ROOT).as_posix().encode())
            digest.update(file.read_bytes())
    for library in libraries:
        digest.update(f"{library} {_version(library)}".encode())
    return digest.hexdigest()[:16]


def _version(library: str) -> str:
    """Return the version of a package, "" if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


_used: dict[str, str] = {}  # fingerprint of the code of each function that was imported


def function_sha256(setting: str, name: str) -> str:
    """Return the SHA-256 (hex) of the function's code: its package, or the files beside its module.

    Installed modules that it imports are not part of it, because they change rarely.

    Args:
        setting: The setting that names the function, for messages.
        name: Its name as `module:function`.

    Raises:
        ConfigError: The function cannot be imported.
    """
    was_imported = name.partition(":")[0] in sys.modules
    # Without `unwrap`, a decorated function would stand in the file of its decorator.
    files = _files(inspect.unwrap(user_function(setting, name)).__module__)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()
    # Another program or a notebook may have imported an earlier version of the file.
    if (was_imported or name in _used) and _used.get(name) != digest:
        for module_name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is not None and Path(file) in files and module_name != "__main__":
                del sys.modules[module_name]
        importlib.invalidate_caches()
    _used[name] = digest
    return digest


def _files(module: str) -> set[Path]:
    """Return the files of the package of a module, or those beside it and one folder deeper."""
    package, _, inside = module.partition(".")
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return set()
    folder = Path(file).parent
    if inside or Path(file).name == "__init__.py":
        return set(folder.rglob("*.py"))
    if folder.name in _INSTALLED:
        return {Path(file)}
    return {*folder.glob("*.py"), *folder.glob("*/*.py")}


def user_function(setting: str, name: str) -> Callable[..., Any]:
    """Import a function by its name. Its module is searched in the current folder last.

    Args:
        setting: The setting that names the function, for messages.
        name: Its name as `module:function`.

    Raises:
        ConfigError: The function cannot be imported.
    """
    module_name, _, function_name = name.partition(":")
    # Last, because a file `models.py` or `random.py` beside the user's data must shadow no package.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        attribute = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{setting}: {name} cannot be imported ({error}). Expected module:function, where "
            "the module is installed, lies in the current folder or in a folder of PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:  # a script may call sys.exit
        raise ConfigError(
            f"{setting}: the module {module_name} cannot be imported, because its code raises "
            f"an error ({type(error).__name__}: {error})"
        ) from error
    if not callable(attribute):
        raise ConfigError(f"{setting}: {name} is not a function. Received: {attribute!r}")
    imported: Callable[..., Any] = attribute
    return imported
