"""A model is a program: what its graph could do to this machine is looked at before it is loaded.

TensorFlow's own advice is never to run a graph that one does not trust. These operations have no
place in a model that is only asked, and would let it read or write files, or call into Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tensorflow.python.saved_model import loader_impl

from imgpipe.serving.server.status import Code, StatusError

REFUSED_OPS = frozenset(
    [
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "ImportEvent",
        "CreateSummaryFileWriter",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "CacheDataset",
        "CacheDatasetV2",
        "RpcCall",
        "RpcClient",
        "RpcServer",
    ]
)
_PRINT = "PrintV2"
"""Prints to a stream, or to a file where its name says so."""


def check(directory: Path, tags: Iterable[str]) -> None:
    """Refuse a SavedModel whose graph holds one of the operations above.

    Raises:
        StatusError: FAILED_PRECONDITION; names the operations and the way around.
        OSError, ValueError: as TensorFlow's reader finds.
    """
    wanted = set(tags)
    found: set[str] = set()
    for meta_graph in loader_impl.parse_saved_model(str(directory)).meta_graphs:
        if set(meta_graph.meta_info_def.tags) == wanted:
            found.update(_refused(meta_graph.graph_def))
    if found:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"The graph holds {', '.join(sorted(found))}: it could read or write files, or call "
            "into Python. Start the server with --allow_file_operations if you trust it.",
        )


def _refused(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from _of_node(node)
    for function in graph.library.function:
        for node in function.node_def:
            yield from _of_node(node)


def _of_node(node: Any) -> Iterator[str]:
    if node.op in REFUSED_OPS:
        yield node.op
    elif node.op == _PRINT and node.attr["output_stream"].s.startswith(b"file:"):
        yield f"{_PRINT} to a file"
