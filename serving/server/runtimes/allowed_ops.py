"""The TensorFlow operations that a served graph may run.

The list is derived from TensorFlow's registry of operations by the rules below, so that it fits the
installed version. An operation is allowed if neither its name nor one of its arguments refers to
files, the network, other processes or devices, Python, data sets or debugging, and if it is
stateless or keeps its state in this process (variables, tables, random numbers). All other
operations are refused, including stateful operations of later versions of TensorFlow. A list of
refused operations could be bypassed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

# The words of a name such as ReadVariableOp or shared_name.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_NAME_WORDS = re.compile(
    "abort|bcast|checkpoints?|collective|custom|dataset|db|debug|dump|files?|func|iterator|mlir"
    "|nccl|options|reader|recv|record|remote|restore|rpc|save|saver|send|session|snapshot|sql|stats"
    "|summary|system|tpu|worker"
)
"""Forbidden words in names of operations: ``PyFunc`` and ``ReadFile`` contain one."""
_ARGUMENT_WORDS = re.compile(
    "address(es)?|debug|descriptor|dir|directory|files?|filenames?|logdir|path|port|prefix|protocol"
    "|region|urls?|uri"
)
"""Forbidden words in names of inputs and attributes."""
_DEBUG_NAME = "debug_name"
"""An attribute of variables and parsers that only appears in error messages."""
_HARMLESS = frozenset(
    [
        "ShardedFilename",  # joins strings
        "Print",  # to standard error
        "PrintV2",  # the same; graph_check refuses one that prints to a file
        "CheckNumericsV2",  # a check on values, not a debugger
        "XlaCallModule",  # the compiled function of a model that was exported from JAX
    ]
)
_KEEPS_STATE_HERE = re.compile(
    r"(Var(Handle|IsInitialized|iable)|ReadVariable|Assign|DestroyResource|DisableCopyOnRead"
    r"|Resource(Gather|Scatter|StridedSlice|CountUpTo|Apply|SparseApply)"
    r"|(Anonymous)?(Mutable)?(Dense)?HashTable|LookupTable|InitializeTableV2"
    r"|(Stateful|Stateless)?(Random|Uniform|Truncated|StandardNormal|PartitionedCall)"
    r"|ParameterizedTruncatedNormal|Multinomial|NonDeterministicInts|Rng|StatelessRandomGetAlg"
    r"|SampleDistortedBoundingBox|[A-Z][A-Za-z]*CandidateSampler|AllCandidateSampler"
    r"|If$|While$|Case$|Assert$|CheckNumerics$|GuaranteeConst|Empty$|DeviceIndex|Timestamp$"
    r"|TensorArray|Stack|CudnnRNN|MutexLock|BoostedTreesPredict)"
)
"""Beginnings of the names of allowed stateful operations: ``ResourceApply`` also stands for
``ResourceApplyAdam``. Those that end in ``$`` are whole names."""


def _speaks_of(words: re.Pattern[str], name: str) -> bool:
    return any(words.fullmatch(word.lower()) for word in _WORD.findall(name))


def _is_allowed(op: op_def_pb2.OpDef) -> bool:
    if op.name in _HARMLESS:
        return True
    # The underscore marks internal operations such as _Send, which no exporter writes.
    if op.name.startswith("_") or _speaks_of(_NAME_WORDS, op.name):
        return False
    arguments = {argument.name for argument in (*op.input_arg, *op.attr)} - {_DEBUG_NAME}
    if any(_speaks_of(_ARGUMENT_WORDS, name) for name in arguments):
        return False
    return not op.is_stateful or _KEEPS_STATE_HERE.match(op.name) is not None


def registered() -> Iterator[op_def_pb2.OpDef]:
    """Yield every registered operation, including those of loaded libraries."""
    operations = op_def_pb2.OpList()
    buffer = pywrap_tf_session.TF_GetAllOpList()
    try:
        operations.ParseFromString(pywrap_tf_session.TF_GetBuffer(buffer))
    finally:
        pywrap_tf_session.TF_DeleteBuffer(buffer)
    yield from operations.op


@functools.cache
def allowed_operations() -> frozenset[str]:
    """Return the names of the operations that a served graph may run."""
    return frozenset(op.name for op in registered() if _is_allowed(op))
