"""Layers inside other layers, and their paths in the files of Keras 3."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def snake(name: str) -> str:
    """Return a class name in the form that Keras uses for layers, such as conv2d or re_lu."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def walk(layers: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield layers and all layers inside them, each once.

    Args:
        layers: The layers of a model, in its order.

    Yields:
        The path in a Keras 3 file, such as "conv2d_1" or "sequential/layers/dense", and the layer.
    """
    return _in_container(layers, "", {})


def _in_container(values: Iterable[Any], path: str, seen: dict[int, Any]) -> Iterator[Any]:
    import keras

    counts: dict[str, int] = {}
    for value in values:
        if isinstance(value, (keras.Layer, list, tuple, dict)):
            kind = snake(type(value).__name__) if isinstance(value, keras.Layer) else "container"
            number = counts[kind] = counts.get(kind, -1) + 1
            yield from _in_value(value, f"{path}{kind}_{number}" if number else path + kind, seen)


def _in_value(value: Any, path: str, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the layers in any value of an attribute; `seen` holds the values by their `id`."""
    import keras

    if not isinstance(value, (keras.Layer, list, tuple, dict)) or id(value) in seen:
        return
    seen[id(value)] = value  # while it is held here, no other object is given its `id`
    if not isinstance(value, keras.Layer):
        members = value.values() if isinstance(value, dict) else value
        yield from _in_container(members, f"{path}/", seen)
        return
    yield path, value
    # A layer with two names has the path of the first, and private names come last.
    names = sorted(set(dir(value)) - _unsaved(), key=lambda name: (name.startswith("_"), name))
    if isinstance(value, (keras.Function, keras.Sequential)):
        names.insert(0, "layers")
    for name in names:
        try:
            inner = getattr(value, name)
        except Exception:  # a property may raise any error
            continue
        yield from _in_value(inner, f"{path}/{name}", seen)


@functools.cache
def _unsaved() -> frozenset[str]:
    """Return the attributes that Keras does not save: those of every layer, and one more."""
    import keras

    return frozenset({*dir(keras.Layer()), "_self_unconditional_dependency_names"})
