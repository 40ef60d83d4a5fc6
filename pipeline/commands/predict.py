"""``imgpipe predict``: pictures to a server, label names back. No TensorFlow."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from models.errors import ConfigError, ImgpipeError
from serving.client import Classification, Client, ServingError

_CHUNK = 16  # images a request


class _ServerError(ImgpipeError):
    """The server's own refusal, with the client's exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(
    images: Sequence[Path],
    server: str,
    model: str,
    crop: str | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Classify and print; returns the exit code."""
    box = _box(crop)
    contents = [_read(path, box) for path in images]
    answers: list[Classification] = []
    try:
        with Client(server, model=model, timeout=timeout) as client:
            for start in range(0, len(contents), _CHUNK):
                answers += client.classify(contents[start : start + _CHUNK])
    except ServingError as error:
        raise _ServerError(f"{server}, model {model!r}: {error}", error.exit_code) from None
    _show(images, answers, as_json)
    return 0


def _show(images: Sequence[Path], answers: Sequence[Classification], as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "image": str(path),
                "label": answer.label,
                "probability": answer.probability,
                "top": [{"label": name, "probability": p} for name, p in answer.top],
                "version": answer.version,
            }
            for path, answer in zip(images, answers, strict=True)
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(str(path)) for path in images)
    for path, answer in zip(images, answers, strict=True):
        others = ", ".join(f"{name} {p:.3f}" for name, p in answer.top[1:])
        console.print(
            f"{escape(str(path)):<{width}}  [bold]{escape(answer.label)}[/] "
            f"{answer.probability:.3f}  [dim]{escape(others)} (version {answer.version})[/]"
        )


def _box(crop: str | None) -> tuple[int, int, int, int] | None:
    """x, y, width, height of ``--crop``."""
    if crop is None:
        return None
    try:
        x, y, width, height = (int(part) for part in crop.split(","))
    except ValueError:
        raise ConfigError(f"--crop takes x,y,w,h in pixels. Received: {crop!r}.") from None
    if min(x, y) < 0 or min(width, height) < 1:
        raise ConfigError(f"--crop needs x, y ≥ 0 and w, h ≥ 1. Received: {crop!r}.")
    return x, y, width, height


def _read(path: Path, box: tuple[int, int, int, int] | None) -> bytes:
    """The file's bytes, or its crop as PNG."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
    if box is None:
        return content
    from PIL import Image, UnidentifiedImageError

    x, y, width, height = box
    try:
        with Image.open(io.BytesIO(content)) as image:
            if x + width > image.width or y + height > image.height:
                raise ConfigError(
                    f"--crop {x},{y},{width},{height} reaches outside {path} "
                    f"({image.width} x {image.height} pixels)."
                )
            part = image.convert("RGB").crop((x, y, x + width, y + height))
    except (UnidentifiedImageError, OSError) as error:
        raise ConfigError(f"cannot crop {path}: {error}.") from None
    out = io.BytesIO()
    part.save(out, "PNG")
    return out.getvalue()
