"""Classify, Regress and MultiInference, which compute labels and values of tf.Examples.

A signature must have one input ``inputs`` of serialized tf.Examples. As in TensorFlow Serving, its
method name is checked only on request, because exports of TF2 and Keras all say "predict". The
checks and messages follow servables/tensorflow/{classifier,regressor,multi_inference,util}.cc.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow_serving.apis import classification_pb2, regression_pb2

from imgpipe.serving import tensors
from imgpipe.serving.server.requests.limits import Limits
from imgpipe.serving.server.requests.predict import run
from imgpipe.serving.server.runtimes.runtime import Runtime
from imgpipe.serving.server.signature_names import DEFAULT_SIGNATURE
from imgpipe.serving.server.status import Code, StatusError, invalid

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_INPUTS, _OUTPUTS = "inputs", "outputs"
_CLASSES, _SCORES = "classes", "scores"
_FLOAT = 1


@dataclass(frozen=True)
class Task:
    """A method and a signature to run on the examples."""

    method: str
    """``CLASSIFY`` or ``REGRESS``."""
    signature_name: str
    """Name of the signature that runs, even if the request named none."""

    @classmethod
    def of(cls, method: str, request: Any) -> Task:
        """Return the task of a message with a ``model_spec``, which may name a signature."""
        return cls(method, request.model_spec.signature_name or DEFAULT_SIGNATURE)


@dataclass(frozen=True)
class ExampleAnswers:
    """Results of all tasks of a request."""

    results: list[Any]
    """A ClassificationResult or RegressionResult for each task, in their order."""
    run_seconds: float
    rows: int


def serialized(examples: Any) -> np.ndarray:
    """Serialize the examples of a request, each joined with the context of the request.

    Args:
        examples: A ``tensorflow.serving.Input``.

    Returns:
        Byte strings, object array of shape [examples].

    Raises:
        StatusError: INVALID_ARGUMENT, the request contains no example.
    """
    kind = examples.WhichOneof("kind")
    context, listed = b"", []
    if kind == "example_list":
        listed = examples.example_list.examples
    elif kind == "example_list_with_context":
        context = examples.example_list_with_context.context.SerializeToString()
        listed = examples.example_list_with_context.examples
    if not len(listed):
        raise invalid("Input is empty.")
    strings = np.empty(len(listed), dtype=object)
    # By protobuf's rule for merging, joined messages parse as one message with the fields of both.
    strings[:] = [context + example.SerializeToString() for example in listed]
    return strings


def infer(
    runtime: Runtime,
    tasks: Sequence[Task],
    examples: Any,
    *,
    timeout: float | None,
    limits: Limits,
    check_method_name: bool,
    multi: bool,
) -> ExampleAnswers:
    """Run all ``tasks`` on the same examples in one session run.

    Args:
        runtime: The runtime of the version.
        tasks: The methods and signatures to run.
        examples: A ``tensorflow.serving.Input``.
        timeout: Time limit in seconds; None for none.
        limits: Limits on the bytes of the examples and on the images in them.
        check_method_name: Whether the method name of a signature must be that of its task.
        multi: Whether to use the error messages of MultiInference.

    Returns:
        One answer for each task, in their order.

    Raises:
        StatusError: A task does not fit the model, or the graph fails.
    """
    feeds, fetches = set(), set()
    for task in tasks:
        signature = runtime.signatures.get(task.signature_name)
        if signature is None:
            raise _not_found(task.signature_name, multi)
        name, outputs = _ends(signature, task.method, check_method_name)
        feeds.add(name)
        fetches.update(outputs)
    strings = serialized(examples)
    limits.check_size(_INPUTS, strings)
    limits.check_examples(strings)
    names, inputs = sorted(fetches), sorted(feeds)  # in TF2, each signature has its own input
    began = time.monotonic()
    values = run(runtime, inputs, [strings] * len(inputs), names, timeout)
    results = dict(zip(names, values, strict=True))
    seconds = time.monotonic() - began
    answers = []
    for task in tasks:
        signature = runtime.signatures[task.signature_name]
        convert = _classification if task.method == CLASSIFY else _regression
        answers.append(convert(signature, results, len(strings)))
    return ExampleAnswers(answers, seconds, len(strings))


def _not_found(signature_name: str, multi: bool) -> StatusError:
    if multi:
        return invalid(f"Requested signature not found in model graph: {signature_name}")
    return invalid(f"No signature was found with the name: {signature_name}")


def _ends(signature: Any, method: str, check_name: bool) -> tuple[str, list[str]]:
    """Return the name of the input tensor and the names of the output tensors."""
    kind = "classification" if method == CLASSIFY else "regression"
    if check_name and signature.method_name != method:
        raise invalid(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if method == REGRESS and len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if method == CLASSIFY and len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise _precondition(f"No {kind} inputs found in SignatureDef: ", signature)
    feed = signature.inputs[_INPUTS].name
    wanted = (_OUTPUTS,) if method == REGRESS else (_CLASSES, _SCORES)
    fetches = [signature.outputs[name].name for name in wanted if name in signature.outputs]
    if not fetches and method == REGRESS:
        raise _precondition("No regression outputs found in SignatureDef: ", signature)
    if not fetches:
        raise _precondition(
            "Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: ',
            signature,
        )
    return feed, fetches


def _precondition(words: str, signature: Any) -> StatusError:
    text = " ".join(str(signature).split())
    return StatusError(Code.FAILED_PRECONDITION, words + text)


def _classification(signature: Any, outputs: dict[str, np.ndarray], count: int) -> Any:
    classes, scores = (
        outputs[signature.outputs[name].name] if name in signature.outputs else None
        for name in (_CLASSES, _SCORES)
    )
    for name, values, dtype in (("classes", classes, "string"), ("scores", scores, "float")):
        if values is None:
            continue
        if values.ndim != 2:
            raise invalid(
                f"Expected Tensor shape: [batch_size num_classes] but got {_shape(values)}"
            )
        if tensors.dtype_name(tensors.number_of(values)) != dtype:
            raise invalid(f"Expected {name} Tensor of DT_{dtype.upper()}. Got: {_dtype(values)}")
        if len(values) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(values)}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    width = next(v.shape[1] for v in (classes, scores) if v is not None)
    for row in range(count):
        ranking = result.classifications.add().classes
        for column in range(width):
            ranking.add(
                label="" if classes is None else tensors.text_of(classes[row, column]),
                score=0.0 if scores is None else float(scores[row, column]),
            )
    return result


def _regression(signature: Any, outputs: dict[str, np.ndarray], count: int) -> Any:
    values = outputs[signature.outputs[_OUTPUTS].name]
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(values)}"
        )
    if len(values) != count:
        raise invalid(
            f"Input batch size did not match output batch size: {count} vs. {len(values)}"
        )
    if tensors.number_of(values) != _FLOAT:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(values)}")
    result = regression_pb2.RegressionResult()
    for value in values.reshape(-1).tolist():
        result.regressions.add(value=value)
    return result


def _shape(values: np.ndarray) -> str:
    return f"[{','.join(map(str, values.shape))}]"


def _dtype(values: np.ndarray) -> str:
    return f"DT_{tensors.dtype_name(tensors.number_of(values)).upper()}"
