"""Fills in the templates of the files with which tensorflow/serving is deployed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

from imgpipe.serving.deploy.settings import Deployment

_CONFIGS = ("models.config", "batching.config", "monitoring.config")
"""Text protocol buffers that tensorflow_model_server reads."""


def _files(names: tuple[str, ...], deployment: Deployment) -> dict[str, str]:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # the files are YAML and text, not HTML
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"yaml": _yaml, "quoted": _quoted}
    return {name: environment.get_template(name).render(server=deployment) for name in names}


def _yaml(text: str) -> str:
    """Return a string as a YAML scalar on one line, in quotes only where YAML needs them."""
    import yaml

    if not text.isprintable():
        return _quoted(text)  # JSON is YAML, and has everything on one line
    written = yaml.safe_dump([text], default_flow_style=False, allow_unicode=True, width=10_000)
    return str(written).removeprefix("- ").removesuffix("\n")


def _quoted(text: str) -> str:
    """Return a string as text protocol buffers write it, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


TARGETS: dict[str, Callable[[Deployment], dict[str, str]]] = {
    "compose": functools.partial(_files, ("docker-compose.yaml", *_CONFIGS)),
    "kubernetes": functools.partial(_files, ("kubernetes.yaml", *_CONFIGS)),
    "kserve": functools.partial(_files, ("inference-service.yaml",)),
}
"""The deployment targets by name. Each returns the contents of its files by file name."""
