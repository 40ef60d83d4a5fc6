"""Predict on a loaded version that a request holds while it uses it, for gRPC and REST.

    with core.acquire(Spec("imgpipe", version=3)) as handle:            # manager.Core
        outputs = handle.predict({"image_bytes": array}, call=call)  # {alias: numpy array}
        handle.name, handle.version   # what answered

Inputs are TensorProtos (gRPC) or arrays (REST; strings are object arrays of bytes). Outputs are
arrays, which each interface writes in its own format. Every error is a `StatusError` with the
code that TensorFlow Serving has for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.serving import tensors
from imgpipe.serving.look import in_words
from imgpipe.serving.server import limits, status
from imgpipe.serving.server.calls import Call, LongCall, conversion
from imgpipe.serving.server.limits import SLICE_PIXELS, SMALL_PIXELS, Pace, Turns
from imgpipe.serving.server.runtime import Runtime, calls_at_once
from imgpipe.serving.server.settings import ELSEWHERE
from imgpipe.serving.server.status import Code, StatusError, invalid, listed

_turns = Turns(calls_at_once())
"""Slices of long calls of all models, which share the cores. Otherwise the threads of TensorFlow
would begin all of them, and short calls would wait for each."""
_large_images = Turns(1)
"""Images of more than `SLICE_PIXELS`, whose decoding occupies a thread of TensorFlow for long."""
_photographs = Turns(calls_at_once())
"""Other calls with more than `SMALL_PIXELS`. The threads of TensorFlow would decode all of them
before they come back to a small image."""


@dataclass(frozen=True)
class Spec:
    """The version of a model that a request selects: by number, or the newest."""

    name: str
    version: int | None = None

    @classmethod
    def of(cls, request: Any) -> Spec:
        """Return the spec of a request message with a `model_spec`.

        Raises:
            StatusError: INVALID_ARGUMENT, the `model_spec` or its name is missing, or it has a
                label.
        """
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
    pace: Pace = field(default_factory=lambda: Pace(calls_at_once()))
    folder: Path = Path()
    """The folder of the version."""

    def signature(self, key: str) -> Any:
        """Return the SignatureDef of a key, empty for the default.

        The signature by which a SavedModel is initialised names operations instead of tensors, and
        cannot be asked.

        Raises:
            StatusError: FAILED_PRECONDITION, the model has no such signature.
        """
        signature = self.runtime.signatures.get(key or SERVING_DEFAULT)
        infos = []
        if signature is not None:
            infos = [*signature.inputs.values(), *signature.outputs.values()]
        if signature is None or not all(info.dtype for info in infos):
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f'Serving signature key "{key or SERVING_DEFAULT}" not found. This version has: '
                f"{listed(self.runtime.signatures)}.",
            )
        return signature

    def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
        *,
        call: Call | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one signature on tensors.

        Args:
            inputs: TensorProto or array by input name.
            signature_name: Name of the signature; empty for `serving_default`.
            output_filter: Names of the outputs to return; empty for all.
            call: The call, which learns what ran, and is given up between two slices of rows when
                its time is over or nobody waits for its answer; None for no limit.

        Returns:
            The outputs by name.

        Raises:
            LongCall: There is, or will be, more than one slice, and the call does not know yet that
                it is long.
            StatusError: The request does not fit the model, or the graph fails on its values.
        """
        call = call or Call("GRPC", is_long=True)
        key = signature_name or SERVING_DEFAULT
        signature = self.signature(key)
        arrays = self.arrays(key, inputs, call)
        tensor_names = {
            alias: signature.outputs[alias].name for alias in _outputs(signature, output_filter)
        }
        fetches = sorted(set(tensor_names.values()))  # several aliases may refer to one tensor
        rows = _row_counts(signature, arrays)
        count = 1 if not rows or rows[0] is None else rows[0]
        began = time.monotonic()
        slices: list[dict[str, np.ndarray]] = []
        try:
            for values in self._slices(key, arrays, fetches, call):
                by_tensor = dict(zip(fetches, values, strict=True))
                slices.append({alias: by_tensor[name] for alias, name in tensor_names.items()})
        except StatusError as error:
            if error.code != Code.INVALID_ARGUMENT:
                raise
            raise invalid(in_words(error.message, limits.images_of(arrays))) from error
        call.signature = key
        call.rows = count
        call.run_seconds = time.monotonic() - began
        return _joined(slices)

    def arrays(self, key: str, sent: Mapping[str, Any], call: Call) -> dict[str, np.ndarray]:
        """Return the inputs of a signature as arrays, in the order of their names.

        Args:
            key: Name of the signature; empty for `serving_default`.
            sent: TensorProto or array by input name.
            call: The call, whose size tells how long the conversion takes.

        Raises:
            StatusError: The inputs do not fit the signature.
        """
        signature = self.signature(key)
        if set(sent) != set(signature.inputs):
            raise invalid(
                "The inputs do not fit the signature. Expected: "
                f"{listed(signature.inputs)}. Received: {listed(sent)}."
            )
        with conversion(call.size):
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

    def _slices(
        self, key: str, arrays: Mapping[str, np.ndarray], fetches: Sequence[str], call: Call
    ) -> Iterator[list[np.ndarray]]:
        """Run a signature, in slices of rows where the model computes each row alone."""
        rows = set(_row_counts(self.runtime.signatures[key], arrays))
        many = any(count is not None and count > limits.MAX_SLICE_ROWS for count in rows)
        if many and self.runtime.by_row and not call.is_long:
            raise LongCall(call)  # before the pixels are counted, which takes time, too
        with conversion(call.size):
            pixels = [
                limits.row_pixels(alias, value, self.max_pixels) for alias, value in arrays.items()
            ]
        if not self.runtime.by_row or len(rows) != 1 or rows == {0}:
            self._check_hidden_costs(arrays, call)
            yield self._run_slice(key, arrays, fetches)
            return
        counts = [sum(row) for row in zip(*pixels, strict=True)]
        if rows == {None}:  # a single image, such as pixels [H, W, 3], is not divided
            counts = [sum(counts)]
        begin = 0
        with limits.parts_of(*arrays.values()):
            while begin < len(counts):
                end = self.pace.end(key, counts, begin)
                part = arrays
                if end - begin < len(counts):
                    part = {alias: value[begin:end] for alias, value in arrays.items()}
                with _turn(counts, begin, end, call):
                    call.check()
                    self._check_hidden_costs(part, call)
                    with self.pace.measured(key, end - begin):
                        values = self._run_slice(key, part, fetches)
                yield values
                begin = end

    def _check_hidden_costs(self, arrays: Mapping[str, np.ndarray], call: Call) -> None:
        if self.max_pixels:
            with conversion(call.size):
                limits.check_hidden_costs(arrays)

    def _run_slice(
        self, key: str, arrays: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> list[np.ndarray]:
        signature = self.runtime.signatures[key]
        feeds = [signature.inputs[alias].name for alias in arrays]
        try:
            values = self.runtime.run(feeds, list(arrays.values()), fetches)
        except Exception as error:
            raise status.from_exception(error) from error
        # A session returns a string of shape [] as plain `bytes`.
        return [v if isinstance(v, np.ndarray) else tensors.as_array(v) for v in values]


def _turn(counts: Sequence[int], begin: int, end: int, call: Call) -> AbstractContextManager[None]:
    """Return the context in which a slice of rows runs, given the pixels of all rows."""
    is_large = counts[begin] > SLICE_PIXELS
    if is_large or end - begin < len(counts):
        if not call.is_long:
            raise LongCall(call)
        return (_large_images if is_large else _turns).turn()
    return _photographs.turn() if sum(counts) > SMALL_PIXELS else nullcontext()


def _joined(slices: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the outputs of all slices; those without rows are the same in each."""
    first = slices[0]
    if len(slices) == 1:
        return dict(first)
    return {
        alias: np.concatenate([part[alias] for part in slices]) if value.ndim else value
        for alias, value in first.items()
    }


def _row_counts(signature: Any, arrays: Mapping[str, np.ndarray]) -> list[int | None]:
    """Return the number of rows of each input; None where it is no list of rows."""
    inputs = signature.inputs
    return [tensors.row_count(value, inputs[alias]) for alias, value in arrays.items()]


def _outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    wrong = [alias for alias in output_filter if alias not in signature.outputs]
    if wrong:
        raise invalid(
            f"output tensor alias not found in signature: {listed(wrong)}. Expected some of: "
            f"{listed(signature.outputs)}."
        )
    return list(dict.fromkeys(output_filter)) or sorted(signature.outputs)
