"""Networks of the user: a function of the user's own module builds the backbone.

Its name is ``module:function``, the notation of web servers for an application. The function
receives the side of the images in pixels and returns a functional Keras model from pixels [N, S, S,
3], 0..255, to a feature map [N, h, w, C]. Pooling and the head are added to it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models.backbones.architecture import Architecture, Choice
from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    import keras

_NAME: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_IMAGE_SIZE: Final = 224  # side in pixels when model.image_size is not set

ARCHITECTURES: Final[tuple[Architecture, ...]] = ()


def named(name: str) -> Architecture | None:
    """Returns the architecture for a name such as ``my_module:build``; None for other names.

    Args:
        name: Name of an architecture.
    """
    if _NAME.fullmatch(name) is None:
        return None
    return Architecture(
        name, _IMAGE_SIZE, source, imagenet=False, code_sha256=lambda: code_sha256(name)
    )


def source(choice: Choice, side: tuple[int, int]) -> keras.Model:
    """Calls the user's function and checks its result.

    Args:
        choice: The options; only the name matters.
        side: Height and width of the images in pixels; the function receives the height.

    Returns:
        The functional model that the function returned.

    Raises:
        ConfigError: There is no such function, or it does not return a model with one feature map.
    """
    import keras

    network = _function(choice.name)(side[0])
    functional = isinstance(network, keras.Model) and hasattr(network, "outputs")
    shapes = [tuple(output.shape) for output in network.outputs] if functional else []
    if len(shapes) != 1 or len(shapes[0]) != 4:
        received = f"a model with outputs {shapes}" if functional else type(network).__name__
        raise ConfigError(
            f"model.builder: {choice.name} must return a functional keras.Model with one output, "
            "the feature map [N, h, w, C] before pooling and the last layer, which are added to "
            f"it. Received: {received}"
        )
    return network


def code_sha256(name: str) -> str:
    """Returns the SHA-256 (hex) of the file that contains the function.

    Args:
        name: Name of the function, as ``module:function``.

    Raises:
        ConfigError: The function cannot be imported.
    """
    # Without `unwrap`, a decorated function would stand in the file of its decorator.
    file = inspect.getsourcefile(inspect.unwrap(_function(name)))
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()


def _function(name: str) -> Callable[[int], Any]:
    """Imports a function by its name. Its module is searched in the working directory last."""
    module_name, _, function_name = name.partition(":")
    # Last, because a file `models.py` or `random.py` beside the user's data must shadow no package.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"model.builder: {name} cannot be imported ({error}). Expected module:function, where "
            "the module is installed, lies in the working directory or in a folder of PYTHONPATH"
        ) from error
    if not callable(function):
        raise ConfigError(f"model.builder: {name} is not a function. Received: {function!r}")
    return function
