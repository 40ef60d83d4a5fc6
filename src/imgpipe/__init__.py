"""From a folder of photographs to a blessed, served image classifier.

The subpackages are `imgpipe.pipeline`, `imgpipe.components`, `imgpipe.models` and
`imgpipe.serving`. Importing `imgpipe` itself imports none of them.
"""

from __future__ import annotations

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Return an artifact type or a component by its name, importing it on first use.

    TFX's Kubeflow entry point looks up a custom artifact type as ``<top-level package>.<Name>``.
    """
    if not name.startswith("_"):
        import importlib

        components = importlib.import_module("imgpipe.components")
        if name in components.__all__:
            return getattr(components, name)
    raise AttributeError(f"module 'imgpipe' has no attribute {name!r}")
