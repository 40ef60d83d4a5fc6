"""All architectures by name. They are found in the folder `architectures/`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from imgpipe.models.backbones import architectures
from imgpipe.models.backbones.architecture import Architecture
from imgpipe.models.errors import ConfigError, nearest

_MODULES: Final = [
    importlib.import_module(f"{architectures.__name__}.{module.name}")
    for module in pkgutil.iter_modules(architectures.__path__)
]
_ARCHITECTURES: Final[dict[str, Architecture]] = {
    architecture.name: architecture for module in _MODULES for architecture in module.ARCHITECTURES
}


def names() -> tuple[str, ...]:
    """Return the names of the architectures. `architecture` also accepts names of a pattern."""
    return tuple(_ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """Return the architecture with a name.

    Args:
        name: One of `names`, or a name of a pattern, such as ``conv_16_32`` or ``module:function``.

    Raises:
        ConfigError: There is no such architecture.
    """
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name]
    for module in _MODULES:
        named = getattr(module, "named", None)
        found: Architecture | None = named(name) if named else None
        if found:
            return found
    raise ConfigError(
        f"unknown backbone. Expected one of: {', '.join(_ARCHITECTURES)}. Received: {name!r}"
        f"{nearest(name, _ARCHITECTURES)}"
    )
