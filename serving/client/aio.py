"""The asyncio client: the methods of ``Client``, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from imgpipe.serving.client.aio_transport import transport_to
from imgpipe.serving.client.base import ClientBase
from imgpipe.serving.client.classifying import Classifying
from imgpipe.serving.client.images import Image
from imgpipe.serving.client.messages import Example
from imgpipe.serving.client.operations import Answer
from imgpipe.serving.client.results import (
    Classification,
    Metadata,
    ModelStatus,
    Prediction,
    Rankings,
    Regressions,
    VersionStatus,
)
from imgpipe.serving.client.steps import Call, ClientStep, Operation, Pause, Together, Work

T = TypeVar("T")


class AsyncClient(ClientBase):  # noqa: D101 (made from that of the base)
    __doc__ = f"{ClientBase.__doc__}\n    It belongs to the event loop of its first call.\n    "

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transport = transport_to(self._connection)

    async def _run(self, operation: Operation[T]) -> T:
        """Execute an operation step by step."""
        resume: Callable[[Any], ClientStep] = operation.send
        outcome: Any = None
        while True:
            try:
                step = resume(outcome)
            except StopIteration as end:
                return end.value
            try:
                outcome, resume = await self._do(step), operation.send
            except Exception as error:  # the operation may handle it, or end with it
                outcome, resume = error, operation.throw

    async def _do(self, step: ClientStep) -> Any:
        if isinstance(step, Call):
            return await self._transport.call(step)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.do)
        return await self._together(step)

    async def _together(self, step: Together) -> list[Any]:
        gate = asyncio.Semaphore(step.at_once)

        async def one(operation: Operation[Any]) -> Any:
            async with gate:
                return await self._run(operation)

        tasks = [asyncio.ensure_future(one(operation)) for operation in step.operations]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            # gather itself leaves the other tasks running after the first error.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Prediction:
        """See ``Client.predict``."""
        return await self._run(
            self._operations.predict(inputs, signature_name, output_filter, timeout)
        )

    async def classify(
        self, images: Sequence[Image], **options: Unpack[Classifying]
    ) -> list[Classification]:
        """See ``Client.classify``."""
        return await self._run(self._operations.classify(images, options))

    async def classify_each(
        self,
        images: Sequence[Image],
        *,
        progress: Callable[[int, Sequence[Answer]], None] | None = None,
        **options: Unpack[Classifying],
    ) -> list[Answer]:
        """See ``Client.classify_each``; ``progress`` is called in the event loop."""
        return await self._run(self._operations.classify_each(images, options, progress))

    async def classify_examples(
        self,
        examples: Sequence[Example],
        signature_name: str = "",
        context: Example | None = None,
        timeout: float | None = None,
    ) -> Rankings:
        """See ``Client.classify_examples``."""
        return await self._run(
            self._operations.classify_examples(examples, signature_name, context, timeout)
        )

    async def regress_examples(
        self,
        examples: Sequence[Example],
        signature_name: str = "",
        context: Example | None = None,
        timeout: float | None = None,
    ) -> Regressions:
        """See ``Client.regress_examples``."""
        return await self._run(
            self._operations.regress_examples(examples, signature_name, context, timeout)
        )

    async def multi_inference(
        self,
        tasks: Mapping[str, str],
        examples: Sequence[Example],
        context: Example | None = None,
        timeout: float | None = None,
    ) -> dict[str, Rankings | Regressions]:
        """See ``Client.multi_inference``."""
        return await self._run(self._operations.multi_inference(tasks, examples, context, timeout))

    async def status(
        self, version: int | None = None, timeout: float | None = None
    ) -> list[VersionStatus]:
        """See ``Client.status``."""
        return await self._run(self._operations.status(version, timeout))

    async def models(self, timeout: float | None = None) -> list[ModelStatus]:
        """See ``Client.models``."""
        return await self._run(self._operations.models(timeout))

    async def ready(self, timeout: float | None = None) -> bool:
        """See ``Client.ready``."""
        return await self._run(self._operations.ready(timeout))

    async def metadata(self, timeout: float | None = None) -> Metadata:
        """See ``Client.metadata``."""
        return await self._run(self._operations.metadata(timeout))

    async def reload(self, config: str, timeout: float | None = None) -> None:
        """See ``Client.reload``."""
        await self._run(self._operations.reload(config, timeout))

    async def wait_until_available(self, timeout: float = 60.0, version: int | None = None) -> int:
        """See ``Client.wait_until_available``."""
        return await self._run(self._operations.wait_until_available(timeout, version))

    async def close(self) -> None:
        """Close the connection and cancel the calls in flight."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
