"""The location of the model, and the commands to serve it and to send requests."""

from __future__ import annotations

import shlex

from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import SERVED_NAME, serve_command

_PORT = 8500  # TensorFlow Serving's default for gRPC; the REST interface has the next one
_GATES = {
    "model": "ImageEvaluator",
    "serving": "ServingValidator",
}


def build(context: Context) -> Content:
    """Return the outcome of the push, and commands if there is a model to serve."""
    push, settings = context.part("push"), context.part("settings")
    if not push:
        return context.absent("Nothing was published")
    path = str(push.get("path") or "").rstrip("/")
    refused = [_GATES.get(gate, str(gate)) for gate in push.get("refused_by") or []]
    return {
        "push": push,
        "refused": " and ".join(refused),
        "before": context.part("baseline").get("version"),
        "settings": settings,
        "vocabulary": context.vocabulary,
        "commands": _commands(path, str(settings.get("name") or SERVED_NAME)) if path else [],
    }


def _commands(path: str, name: str) -> list[tuple[str, str]]:
    """Return (purpose, command) pairs, with all names quoted for a shell."""
    model = shlex.quote(name)
    mount = shlex.quote(f"{path.rpartition('/')[0] or path}:/models/{name}:ro")
    # With a server, --model is a name, even where a folder has the same one.
    asked = "" if name == SERVED_NAME else f" --server localhost:{_PORT} --model {model}"
    return [
        (
            f"Serve it, and open http://localhost:{_PORT + 1}/ in a browser",
            serve_command(path, name),
        ),
        ("Classify an image from another terminal", f"imgpipe predict photo.jpg{asked}"),
        (
            "Or serve it with TensorFlow Serving",
            f"docker run --rm -p {_PORT}:{_PORT} -v {mount} -e MODEL_NAME={model} "
            "tensorflow/serving",
        ),
    ]


SECTION = Section("model", "Model", build, order=20)
