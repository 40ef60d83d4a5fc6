"""A loaded version that a request holds while it uses it: the interface for gRPC and REST.

gRPC and REST only differ in how messages are encoded. Both run a request in this way:

    with core.acquire(Spec("imgpipe", label="stable")) as handle:       # core.Core
        prediction = handle.predict({"image_bytes": array}, timeout=2.0)
        prediction.outputs            # {alias: numpy array}
        handle.name, handle.version   # what answered

* ``Spec`` selects a version of a model; ``Spec.of(message)`` reads a ModelSpec.
* ``Core.acquire(spec)`` returns a ``Handle``; the version is loaded until the handle is released.
* ``Handle.predict`` takes TensorProtos or arrays (strings: object arrays of bytes), and ``infer``
  takes a ``tensorflow.serving.Input`` of tf.Examples.
* ``Handle.signatures`` are the SignatureDefs by key.
* Every error is a ``StatusError`` with a canonical code and the message of TensorFlow Serving.

``calls.Calls.run(call, work)`` counts, times and logs the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgpipe.serving.server.requests import examples as example_tasks
from imgpipe.serving.server.requests import predict as prediction
from imgpipe.serving.server.requests.examples import ExampleAnswers, Task
from imgpipe.serving.server.requests.limits import NO_LIMITS, Limits
from imgpipe.serving.server.requests.predict import Prediction
from imgpipe.serving.server.runtimes.runtime import Runtime
from imgpipe.serving.server.status import invalid


@dataclass(frozen=True)
class Spec:
    """The version of a model that a request selects: by number, by label, or the newest."""

    name: str
    version: int | None = None
    label: str | None = None

    @classmethod
    def of(cls, request: Any) -> Spec:
        """Return the spec of a request message with a ``model_spec``.

        Raises:
            StatusError: INVALID_ARGUMENT, the ``model_spec`` or its name is missing.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return cls.of_spec(request.model_spec)

    @classmethod
    def of_spec(cls, spec: Any) -> Spec:
        """Return the spec of a ModelSpec message.

        Raises:
            StatusError: INVALID_ARGUMENT, the name is missing.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        kind = spec.WhichOneof("version_choice")
        return cls(
            spec.name,
            spec.version.value if kind == "version" else None,
            spec.version_label if kind == "version_label" else None,
        )


@dataclass(frozen=True)
class Handle:
    """One loaded version of one model."""

    name: str
    version: int
    runtime: Runtime
    limits: Limits = NO_LIMITS
    check_method_name: bool = False
    """Whether the method name of a signature must be that of its task."""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """SignatureDef by key."""
        return self.runtime.signatures

    def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
        *,
        timeout: float | None = None,
    ) -> Prediction:
        """Run one signature on tensors.

        Args:
            inputs: TensorProto or array by input name.
            signature_name: Name of the signature; empty for ``serving_default``.
            output_filter: Names of the outputs to return; empty for all.
            timeout: Time limit in seconds; None for none.

        Raises:
            StatusError: The request does not fit the model, or the graph fails on its values.
        """
        return prediction.predict(
            self.runtime, inputs, signature_name, output_filter, timeout=timeout, limits=self.limits
        )

    def infer(
        self,
        tasks: Sequence[Task],
        examples: Any,
        *,
        timeout: float | None = None,
        multi: bool = False,
    ) -> ExampleAnswers:
        """Run several tasks on the same ``tensorflow.serving.Input`` in one session run.

        The time limit is in seconds, and ``multi`` selects the error messages of MultiInference.

        Raises:
            StatusError: A task does not fit the model, or the graph fails.
        """
        return example_tasks.infer(
            self.runtime,
            tasks,
            examples,
            timeout=timeout,
            limits=self.limits,
            check_method_name=self.check_method_name,
            multi=multi,
        )
