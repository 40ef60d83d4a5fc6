"""From a folder of photographs to a blessed, served image classifier.

    import imgpipe

    imgpipe.check("photos").show()
    run = imgpipe.run("photos", "imgpipe-out")
    imgpipe.load("imgpipe-out").predict(["cat.jpg"])

The functions are imported when they are first used; importing ``imgpipe`` itself imports nothing
else. The subpackages are `imgpipe.pipeline`, `imgpipe.components`, `imgpipe.models` and
`imgpipe.serving`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` would import a dozen modules; type checkers know this name

if TYPE_CHECKING:
    from imgpipe.pipeline.api import Check, Evaluation, Export, LoadedModel, Run
    from imgpipe.pipeline.api import check, evaluate, export, load, run
    from imgpipe.serving.client import Client

__version__ = "0.1.0"

# Type checkers read this list, so that it holds nothing but literals.
__all__ = [
    "Check",
    "Client",
    "Evaluation",
    "Export",
    "LoadedModel",
    "Run",
    "check",
    "evaluate",
    "export",
    "load",
    "run",
]

_MODULES = {name: "imgpipe.pipeline.api" for name in __all__}
_MODULES["Client"] = "imgpipe.serving.client"


# Libraries ask for the home folder while they are imported, and fail where the system knows none, as
# in a container that runs with the number of a user only. Nothing is written to a home that does
# not exist. `pathlib` would import a dozen modules.
if os.path.expanduser("~") == "~":  # noqa: PTH111
    os.environ["HOME"] = "/nonexistent"


def __getattr__(name: str) -> object:
    """Return a public name, an artifact type or a component, importing it on first use.

    TFX's Kubeflow entry point looks up a custom artifact type as ``<top-level package>.<Name>``.
    """
    import importlib

    if name in _MODULES:
        try:
            return getattr(importlib.import_module(_MODULES[name]), name)
        except ModuleNotFoundError as error:
            # Another package may be missing, which its error names.
            if not error.name or not _MODULES[name].startswith(error.name):
                raise
            raise ImportError(
                f"imgpipe.{name} needs the distribution imgpipe, of which imgpipe-client is only a "
                "part. Install it with: pip install imgpipe"
            ) from None
    # Python's own tools ask a module for names such as `__wrapped__`, which must not import TFX.
    if not name.startswith("_"):
        components = importlib.import_module("imgpipe.components")
        if name in components.__all__:
            return getattr(components, name)
    raise AttributeError(f"module 'imgpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names too, which are not imported yet."""
    return sorted({*globals(), *__all__})


def _main() -> None:
    """Run the command line, as the installed program ``imgpipe`` does."""
    try:
        from imgpipe.pipeline.cli import main

        main()
    finally:
        import gc

        # Python would visit every object once more at its exit, which takes two seconds after a run.
        gc.freeze()
