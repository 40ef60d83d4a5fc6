"""Predict on a loaded version that a request holds while it uses it, for gRPC and REST.

    with manager.acquire(Spec("imgpipe", version=3)) as handle:  # manager.ModelManager
        outputs = handle.predict({"image_bytes": array}, call=call)  # {alias: numpy array}
        handle.name, handle.version   # what answered

Inputs are TensorProtos (gRPC) or arrays (REST; strings are object arrays of bytes). Outputs are
arrays, which each interface writes in its own format. Every error is a `StatusError` with the
code that TensorFlow Serving has for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.serving import tensors
from imgpipe.serving.look import in_words
from imgpipe.serving.server import limits, status
from imgpipe.serving.server.calls import Call
from imgpipe.serving.server.runtime import Runtime, calls_at_once
from imgpipe.serving.server.settings import ELSEWHERE
from imgpipe.serving.server.status import Code, StatusError, invalid, listed

_MANY_PIXELS = 12_000_000
"""Pixels of a request from which only as many are decoded at once as the cores compute."""
_decoding = threading.BoundedSemaphore(calls_at_once())
"""Held while a request with many pixels runs, whose images take 3 bytes for each pixel."""


@dataclass(frozen=True)
class Spec:
    """The version of a model that a request selects: by number, or the newest."""

    name: str
    version: int | None = None

    @classmethod
    def of(cls, request: Any) -> Spec:
        """Return the spec of a message with a `model_spec`; a StatusError if it has no name."""
        spec = request.model_spec
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.HasField("version_label"):
            raise invalid(
                f"Unrecognized servable version label: {spec.version_label}. This server has no "
                f"labels. {ELSEWHERE}"
            )
        return cls(spec.name, spec.version.value if spec.HasField("version") else None)


@dataclass(frozen=True)
class Handle:
    """One loaded version of one model."""

    name: str
    version: int
    runtime: Runtime
    max_pixels: int = 0
    """Largest allowed number of pixels of an encoded image; 0 for any."""
    folder: Path = Path()
    """The folder of the version."""

    def signature(self, key: str) -> Any:
        """Return the SignatureDef of a key, empty for the default; a StatusError without one."""
        name = key or SERVING_DEFAULT
        if not self.runtime.can_be_asked(name):
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found. This version has: '
                f"{listed(self.runtime.signatures)}.",
            )
        return self.runtime.signatures[name]

    def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
        *,
        call: Call | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one signature, and return all of its outputs by name.

        Args:
            inputs: TensorProto or array by input name.
            signature_name: Name of the signature; empty for `serving_default`.
            output_filter: Names of the outputs that are asked for, which the signature must have.
            call: The call, which learns what ran.

        Raises:
            StatusError: The request does not fit the model, or the graph fails on its values.
        """
        call = call or Call("GRPC")
        call.signature = signature_name or SERVING_DEFAULT
        signature = self.signature(call.signature)
        _check_outputs(signature, output_filter)
        arrays = self.arrays(call.signature, inputs)
        pixels = limits.checked_pixels(arrays, self.max_pixels)
        with _decoding if pixels > _MANY_PIXELS else nullcontext():
            began = time.monotonic()
            try:
                outputs = self.runtime.run(call.signature, arrays)
            except Exception as error:
                failure = status.from_exception(error)
                if failure.code != Code.INVALID_ARGUMENT:
                    raise
                said = in_words(failure.message, limits.images_of(arrays))
                raise invalid(said) from error
        call.run_seconds = time.monotonic() - began
        call.rows = _rows(signature, arrays)
        return outputs

    def arrays(self, key: str, sent: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the inputs of a signature, TensorProtos or arrays, as arrays sorted by name.

        If they do not fit the signature, this is a StatusError.
        """
        signature = self.signature(key)
        if set(sent) != set(signature.inputs):
            raise invalid(
                "The inputs do not fit the signature. Expected: "
                f"{listed(signature.inputs)}. Received: {listed(sent)}."
            )
        return {
            alias: self._array(alias, signature.inputs[alias], sent[alias])
            for alias in sorted(sent)
        }

    def _array(self, alias: str, info: Any, value: Any) -> np.ndarray:
        """Return an input as an array, after what can be said without converting it."""
        try:
            number = tensors.number_of(value)
            # As in TensorFlow Serving, the dtype is compared and the shape is not: the operations
            # of the graph decide which shapes they accept.
            if number != info.dtype:
                name = tensors.dtype_name(info.dtype)
                received = tensors.dtype_name(number)
                raise invalid(
                    f"Expects {alias} to be {name} but {received} is provided. "
                    f"{self._signature_for(number) or f'Send {alias} as {name}.'}"
                )
            if self.runtime.by_row:
                limits.check_rows(tensors.row_count(value, info) or 1)
            return value if isinstance(value, np.ndarray) else tensors.to_array(value)
        except tensors.TensorError as error:
            raise invalid(f"tensor parsing error: {alias} ({error})") from error

    def _signature_for(self, number: int) -> str:
        """Return a sentence that names the signatures for a type, or nothing if there are none."""
        keys = [
            key
            for key, signature in self.runtime.signatures.items()
            if {info.dtype for info in signature.inputs.values()} == {number}
        ]
        return f"Signatures for {tensors.dtype_name(number)}: {listed(keys)}." if keys else ""


def _rows(signature: Any, arrays: Mapping[str, np.ndarray]) -> int:
    """Return the number of rows of the first input; 1 where it is no list of rows."""
    counts = [tensors.row_count(value, signature.inputs[name]) for name, value in arrays.items()]
    return 1 if not counts or counts[0] is None else counts[0]


def _check_outputs(signature: Any, output_filter: Sequence[str]) -> None:
    wrong = [alias for alias in output_filter if alias not in signature.outputs]
    if wrong:
        raise invalid(
            f"output tensor alias not found in signature: {listed(wrong)}. Expected some of: "
            f"{listed(signature.outputs)}."
        )
