"""A load generator: so many callers, each sending its next request when the last is answered.

A closed loop (callers wait, as users of a library do), swept over numbers of callers. Time is cut
into windows; a level is done when three windows in a row agree in throughput and 99th percentile,
as in Triton's perf_analyzer, so that neither start-up nor a hiccup makes the figure. Nothing is
retried: errors are counted by code.
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
"""Version of the report's form."""
AGREEING = 3
"""Windows in a row that must agree."""
PERCENTILES = (50, 90, 99)
_AFTER_ERROR_S = 0.01  # a server that refuses at once is not to be flooded


@dataclass(frozen=True)
class Plan:
    """What to measure, and when a figure counts as stable."""

    concurrency: tuple[int, ...] = (1, 8, 32)
    """Callers at a time, one level after the other."""
    window_seconds: float = 5.0
    tolerance: float = 0.1
    """Largest spread over three windows, as a share of their mean."""
    most_windows: int = 12
    """A level ends here, stable or not."""

    def __post_init__(self) -> None:
        if not self.concurrency or min(self.concurrency) < 1:
            raise InvalidArgument(
                f"concurrency is 1 or more, for each level. Received: {list(self.concurrency)}."
            )
        if self.window_seconds <= 0 or self.tolerance <= 0:
            raise InvalidArgument(
                "A window takes time and a tolerance is above 0. "
                f"Received: {self.window_seconds!r} s, {self.tolerance!r}."
            )
        if self.most_windows < AGREEING:
            raise InvalidArgument(
                f"At least {AGREEING} windows are compared. Received: {self.most_windows!r}."
            )


@dataclass(frozen=True)
class Level:
    """What one number of callers got: of the last three windows."""

    concurrency: int
    stable: bool
    """Whether the three agree; a figure that is not is printed, not believed."""
    windows: int
    requests: int
    """Answered without error."""
    seconds: float
    throughput: float
    """Requests answered a second."""
    latency_ms: dict[str, float | None]
    """p50, p90, p99, mean, max of the answered ones; None where there are none."""
    errors: dict[str, int]
    """Count by code, over all windows of the level."""
    client_cores: float
    """Processor cores that the generator itself took: near 1, it and not the server is measured."""


@dataclass(frozen=True)
class Window:
    """What was answered until the clock was looked at again."""

    latencies: list[float]
    """Seconds of each request."""
    seconds: float

    @property
    def throughput(self) -> float:
        """Requests answered a second."""
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        """99th percentile in seconds; NaN where nothing was answered."""
        return float(np.percentile(self.latencies, 99)) if self.latencies else math.nan


def connection(
    target: str, timeout: float = 30.0, headers: Mapping[str, str] | None = None
) -> Connection:
    """The way to a server under load: no retry, which would hide what it cannot carry."""
    return Connection(target, timeout, retry=Retry(attempts=1), headers=headers or {})


def image_calls(
    images: Sequence[bytes],
    model: str,
    batch: int = 1,
    timeout: float = 30.0,
    signature_name: str = "",
    input_name: str = "image_bytes",
) -> list[Call]:
    """Requests of ``batch`` images each, in turn all of ``images``."""
    if batch < 1:
        raise InvalidArgument(f"A request holds 1 image or more. Received: batch {batch!r}.")
    endless = itertools.cycle(images or [noise()])
    count = max(1, math.ceil(len(images) / batch))
    servable = Servable(model)
    return [
        Call(
            protos.PREDICT,
            messages.predict_request(
                servable, {input_name: list(itertools.islice(endless, batch))}, signature_name
            ),
            timeout,
            False,
        )
        for _ in range(count)
    ]


def status_call(model: str, timeout: float = 30.0) -> Call:
    """The cheapest RPC there is, to tell what the way costs without a model."""
    return Call(protos.STATUS, messages.status_request(Servable(model)), timeout, False)


def noise(side: int = 224, seed: int = 0) -> bytes:
    """A JPEG of soft noise, about as large as a photograph of that side."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(out, "JPEG", quality=90)
    return out.getvalue()


def run(
    way: Connection,
    calls: Sequence[Call],
    plan: Plan | None = None,
    progress: Callable[[Level], None] | None = None,
) -> list[Level]:
    """Measures every level of the plan.

    Args:
        way: The server; see ``connection``.
        calls: Requests to send, one after the other, from the start again at the end.
        plan: Levels of concurrency and length of the windows; a plan with defaults when None.
        progress: Called with each level as it ends.

    Returns:
        One measurement per level, in the order of the plan.

    Raises:
        ServingError: The very first call fails, so there is nothing to measure.
    """
    return asyncio.run(_run(way, calls, plan or Plan(), progress))


async def _run(
    way: Connection,
    calls: Sequence[Call],
    plan: Plan,
    progress: Callable[[Level], None] | None,
) -> list[Level]:
    transport = transport_to(way)
    try:
        await transport.call(calls[0])
        levels = []
        for concurrency in plan.concurrency:
            levels.append(await _level(transport, calls, concurrency, plan))
            if progress is not None:
                progress(levels[-1])
        return levels
    finally:
        await transport.close()


class _Callers:
    """The callers of one level and what they have seen since the last look."""

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
    transport: Transport, calls: Sequence[Call], concurrency: int, plan: Plan
) -> Level:
    callers = _Callers(transport, calls)
    tasks = [asyncio.create_task(callers.repeat()) for _ in range(concurrency)]
    windows: list[Window] = []
    processor, began = time.process_time(), time.perf_counter()
    try:
        while len(windows) < plan.most_windows and not agree(windows, plan.tolerance):
            start = time.perf_counter()
            await asyncio.sleep(plan.window_seconds)
            windows.append(callers.cut(time.perf_counter() - start))
            if not windows[-1].latencies and callers.errors:
                break  # refused throughout: more of it says no more
        cores = (time.process_time() - processor) / (time.perf_counter() - began)
    finally:
        callers.over = True
        await asyncio.gather(*tasks)  # the last requests are on their way
    return _summary(concurrency, windows, plan, callers.errors, cores)


def agree(windows: Sequence[Window], tolerance: float) -> bool:
    """Whether the last three windows differ by no more than ``tolerance`` of their mean."""
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
    plan: Plan,
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
        agree(windows, plan.tolerance),
        len(windows),
        len(latencies),
        seconds,
        len(latencies) / seconds,
        figures,
        dict(sorted(errors.items())),
        cores,
    )


def report(
    target: str, model: str, batch: int, plan: Plan, levels: Sequence[Level]
) -> dict[str, Any]:
    """The figures for other programs; ``schema`` is raised when the form changes."""
    return {
        "schema": SCHEMA,
        "target": target,
        "model": model,
        "images_a_request": batch,
        "plan": asdict(plan),
        "levels": [
            {**asdict(level), "images_a_second": level.throughput * batch} for level in levels
        ],
    }
