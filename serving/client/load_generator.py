"""Load generator: concurrent callers that each send the next request after the last answer.

The load is a closed loop, as users of a library create it, measured at several levels of
concurrency. Time is divided into windows. A level ends when three successive windows agree in
throughput and 99th percentile, as in Triton's perf_analyzer, so that start-up and short
disturbances do not distort the result. Requests are not retried; errors are counted by status code.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgpipe.serving.client import messages, protos
from imgpipe.serving.client.aio_transport import Transport, transport_to
from imgpipe.serving.client.errors import InvalidArgument, ServingError
from imgpipe.serving.client.messages import Servable
from imgpipe.serving.client.options import Connection, Retry
from imgpipe.serving.client.steps import Call

SCHEMA = 1
"""Version of the format of the report."""
AGREEING = 3
"""Number of successive windows that must agree."""
PERCENTILES = (50, 90, 99)
_AFTER_ERROR_S = 0.01  # do not flood a server that refuses requests immediately


@dataclass(frozen=True)
class LoadSettings:
    """What to measure, and when a measurement is stable."""

    concurrency: tuple[int, ...] = (1, 8, 32)
    """Number of concurrent callers in each level."""
    window_seconds: float = 5.0
    tolerance: float = 0.1
    """Largest spread of three windows, as a fraction of their mean."""
    most_windows: int = 12
    """A level ends after this number of windows, stable or not."""

    def __post_init__(self) -> None:
        if not self.concurrency or min(self.concurrency) < 1:
            raise InvalidArgument(
                f"concurrency must be 1 or more in each level. Received: {list(self.concurrency)}."
            )
        if not (0 < self.window_seconds < math.inf and 0 < self.tolerance < math.inf):
            raise InvalidArgument(
                "The length of a window and the tolerance must be finite numbers above 0. "
                f"Received: {self.window_seconds!r} s, {self.tolerance!r}."
            )
        if self.most_windows < AGREEING:
            raise InvalidArgument(
                f"At least {AGREEING} windows must be allowed. Received: {self.most_windows!r}."
            )


@dataclass(frozen=True)
class Level:
    """Measurement at one level of concurrency, from its last three windows."""

    concurrency: int
    stable: bool
    """Whether the three windows agree."""
    windows: int
    requests: int
    """Number of requests answered without error."""
    seconds: float
    throughput: float
    """Answered requests per second."""
    latency_ms: dict[str, float | None]
    """p50, p90, p99, mean and max of the answered requests; None where no request was answered."""
    errors: dict[str, int]
    """Number of errors by status code, over all windows of the level."""
    client_cores: float
    """CPU cores that the load generator used. Near 1, the load generator limits the throughput."""


@dataclass(frozen=True)
class Window:
    """Requests that were answered within one window of time."""

    latencies: list[float]
    """Latency of each request in seconds."""
    seconds: float

    @property
    def throughput(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        """99th percentile of the latency in seconds; NaN where no request was answered."""
        return float(np.percentile(self.latencies, 99)) if self.latencies else math.nan


def connection(
    target: str, timeout: float = 30.0, headers: Mapping[str, str] | None = None
) -> Connection:
    """Return a connection without retries, which would hide that a server is overloaded."""
    return Connection(target, timeout, retry=Retry(attempts=1), headers=headers or {})


def image_calls(
    images: Sequence[bytes], model: str, batch: int = 1, timeout: float = 30.0
) -> list[Call]:
    """Return Predict requests of ``batch`` images each, which together use all of ``images``.

    Args:
        images: Encoded images; a generated image where there are none.
        model: Name of the model.
        batch: Number of images per request.
        timeout: Deadline of each request in seconds.

    Raises:
        InvalidArgument: ``batch`` is below 1.
    """
    if batch < 1:
        raise InvalidArgument(f"batch must be 1 or more. Received: {batch!r}.")
    endless = itertools.cycle(images or [noise()])
    calls = []
    for _ in range(max(1, math.ceil(len(images) / batch))):
        inputs = {"image_bytes": list(itertools.islice(endless, batch))}
        request = messages.predict_request(Servable(model), inputs)
        calls.append(Call(protos.PREDICT, request, timeout, wait_for_ready=False))
    return calls


def noise(side: int = 224, seed: int = 0) -> bytes:
    """Return a JPEG of smooth noise of about the file size of a photograph with sides ``side``."""
    from PIL import Image

    # Coarse noise is enlarged eightfold, because noise of single pixels hardly compresses.
    coarse = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(out, "JPEG", quality=90)
    return out.getvalue()


def run(
    way: Connection,
    calls: Sequence[Call],
    settings: LoadSettings | None = None,
    progress: Callable[[Level], None] | None = None,
) -> list[Level]:
    """Measure every level of concurrency.

    Args:
        way: The connection to the server; see ``connection``.
        calls: Requests to send in a cycle.
        settings: Levels of concurrency and length of the windows; None for the defaults.
        progress: Called with each level when it ends.

    Returns:
        One measurement per level, in the order of `settings.concurrency`.

    Raises:
        ServingError: The very first call fails, so there is nothing to measure.
    """
    return asyncio.run(_run(way, calls, settings or LoadSettings(), progress))


async def _run(
    way: Connection,
    calls: Sequence[Call],
    settings: LoadSettings,
    progress: Callable[[Level], None] | None,
) -> list[Level]:
    transport = transport_to(way)
    try:
        await transport.call(calls[0])  # connects, and fails at once where nothing can be measured
        levels = []
        for concurrency in settings.concurrency:
            levels.append(await _level(transport, calls, concurrency, settings))
            if progress is not None:
                progress(levels[-1])
        return levels
    finally:
        await transport.close()


class _Callers:
    """The callers of one level and their measurements in the current window."""

    def __init__(self, transport: Transport, calls: Sequence[Call]) -> None:
        self._transport, self._calls = transport, itertools.cycle(calls)
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.over = False

    async def repeat(self) -> None:
        while not self.over:
            call, began = next(self._calls), time.perf_counter()
            try:
                await self._transport.call(call)
            except ServingError as error:
                self.errors[error.code] += 1
                await asyncio.sleep(_AFTER_ERROR_S)
            else:
                self.latencies.append(time.perf_counter() - began)

    def cut(self, seconds: float) -> Window:
        window = Window(self.latencies, seconds)
        self.latencies = []
        return window


async def _level(
    transport: Transport, calls: Sequence[Call], concurrency: int, settings: LoadSettings
) -> Level:
    callers = _Callers(transport, calls)
    tasks = [asyncio.create_task(callers.repeat()) for _ in range(concurrency)]
    windows: list[Window] = []
    processor, began = time.process_time(), time.perf_counter()
    try:
        while len(windows) < settings.most_windows and not agree(windows, settings.tolerance):
            start = time.perf_counter()
            await asyncio.sleep(settings.window_seconds)
            windows.append(callers.cut(time.perf_counter() - start))
            if not windows[-1].latencies and callers.errors:
                break  # the server refuses every request, so further windows add nothing
        cores = (time.process_time() - processor) / (time.perf_counter() - began)
    finally:
        callers.over = True
        await asyncio.gather(*tasks)  # wait for the requests in flight
    return _summary(concurrency, windows, settings, callers.errors, cores)


def agree(windows: Sequence[Window], tolerance: float) -> bool:
    """Return whether the last three windows differ by at most ``tolerance`` of their mean."""
    last = windows[-AGREEING:]
    if len(last) < AGREEING or not all(window.latencies for window in last):
        return False
    return all(
        (max(values) - min(values)) / (sum(values) / len(values)) <= tolerance
        for values in ([w.throughput for w in last], [w.p99 for w in last])
    )


def _summary(
    concurrency: int,
    windows: Sequence[Window],
    settings: LoadSettings,
    errors: Counter[str],
    cores: float,
) -> Level:
    last = windows[-AGREEING:]
    latencies = np.array([value for window in last for value in window.latencies]) * 1000
    seconds = sum(window.seconds for window in last)
    figures: dict[str, float | None] = {
        f"p{q}": float(np.percentile(latencies, q)) if latencies.size else None for q in PERCENTILES
    }
    figures["mean"] = float(latencies.mean()) if latencies.size else None
    figures["max"] = float(latencies.max()) if latencies.size else None
    return Level(
        concurrency,
        agree(windows, settings.tolerance),
        len(windows),
        len(latencies),
        seconds,
        len(latencies) / seconds,
        figures,
        dict(sorted(errors.items())),
        cores,
    )


def report(
    target: str, model: str, batch: int, settings: LoadSettings, levels: Sequence[Level]
) -> dict[str, Any]:
    """Return the report as JSON-compatible values; ``schema`` is the version of its format."""
    return {
        "schema": SCHEMA,
        "target": target,
        "model": model,
        "images_a_request": batch,
        "plan": asdict(settings),
        "levels": [
            {**asdict(level), "images_a_second": level.throughput * batch} for level in levels
        ],
    }
