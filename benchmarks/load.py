"""A closed loop of callers, each of whom sends the next request after the last answer."""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from imgpipe.serving.client import messages
from imgpipe.serving.client.channel import PREDICT, Method

_WINDOWS = 3  # measured after the first one, which does not count
_SPREAD = 0.1  # of the windows' throughput, as a share of its mean, up to which it is stable


def image_requests(images: Sequence[bytes], model: str, batch: int = 1) -> list[bytes]:
    """Return Predict requests of `batch` images each, which together use all images."""
    endless = itertools.cycle(images)
    return [
        messages.predict_request(
            model, {"image_bytes": list(itertools.islice(endless, batch))}
        ).SerializeToString()
        for _ in range(-(-len(images) // batch))
    ]


def noise(side: int, seed: int) -> bytes:
    """Return a JPEG of smooth noise of about the file size of a photograph with sides `side`."""
    from PIL import Image

    # Coarse noise is enlarged eightfold, because noise of single pixels hardly compresses.
    coarse = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(out, "JPEG", quality=90)
    return out.getvalue()


def measure(
    target: str,
    requests: Sequence[bytes],
    callers: int,
    seconds: float,
    method: Method = PREDICT,
) -> dict[str, Any]:
    """Measure one number of concurrent callers; a failed request ends the measurement.

    Args:
        target: Address of the server.
        requests: Encoded requests, which are sent in a cycle.
        callers: Number of concurrent callers.
        seconds: Length of each window.
        method: The RPC.

    Returns:
        Answers per second, percentiles of the latency in ms, and whether the windows agree.
    """
    return asyncio.run(_measure(target, requests, callers, seconds, method))


async def _measure(
    target: str, requests: Sequence[bytes], callers: int, seconds: float, method: Method
) -> dict[str, Any]:
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    endless = itertools.cycle(requests)
    over = asyncio.Event()
    latencies: list[float] = []

    async with grpc.aio.insecure_channel(target, options) as channel:
        call = channel.unary_unary(method.path)

        async def repeat() -> None:
            while not over.is_set():
                began = time.perf_counter()
                await call(next(endless), timeout=30.0)
                latencies.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(repeat())
            await asyncio.sleep(seconds)
            latencies.clear()
            counts = [0]
            began = time.perf_counter()
            for _ in range(_WINDOWS):
                await asyncio.sleep(seconds)
                counts.append(len(latencies))
            while not latencies:  # a busy machine may take longer for one answer than all windows
                await asyncio.sleep(seconds)
                counts.append(len(latencies))
            took = time.perf_counter() - began
            answered = np.array(latencies) * 1000
            over.set()
    rates = np.diff(counts)
    return {
        "throughput": len(answered) / took,
        "latency_ms": {f"p{q}": float(np.percentile(answered, q)) for q in (50, 99)},
        "stable": bool(np.ptp(rates) <= _SPREAD * rates.mean()),
    }
