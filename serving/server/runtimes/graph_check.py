"""Check of a model's graph for unsafe operations, before the model is loaded.

TensorFlow's own advice is never to run a graph that one does not trust
(https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md). Here a graph is served only when
every operation that a request or the load itself can reach is on the list of ``allowed_ops``. The
saving half of a SavedModel writes files, but nothing that a server runs reaches it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorflow.python.saved_model import loader_impl

from imgpipe.serving.server.runtimes.allowed_ops import allowed_operations
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.storage import leads_out

_PRINT = "PrintV2"
"""Prints to a stream, or to a file where its attribute says so."""
_FILE_INPUT = {
    "RestoreV2": 0,
    "Restore": 0,
    "RestoreSlice": 0,
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
}
"""Operations that read the model's own variables and vocabularies, and which of their inputs names
the file. They are allowed where the loader itself fills that input."""
_PASSES_ON = frozenset(["Identity", "PlaceholderWithDefault"])
_CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])
"""Their inputs are the arguments of the function, one by one."""
_PLAIN_USES = frozenset(["AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp"])
# Where a SavedModel names the operation that initialises its tables: in collections of the graph in
# TF1, and in a signature of its own in TF2.
_MAIN_OPS = ("saved_model_main_op", "legacy_init_op")
_INIT_SIGNATURE = "__saved_model_init_op"


def check(directory: Path, tags: Iterable[str], trusted: Collection[str] = ()) -> None:
    """Refuse a SavedModel that could reach an operation that is not allowed.

    Args:
        directory: Folder of the SavedModel.
        tags: Tags of the graph that is to be loaded.
        trusted: Names of operations that are allowed too, such as those of a custom library.

    Raises:
        StatusError: FAILED_PRECONDITION, an operation is not allowed. The message names the
            operations, and the flag that allows them.
        OSError, ValueError: TensorFlow cannot read the SavedModel.
    """
    tag_set = set(tags)
    allowed = allowed_operations().union(trusted)
    refused: set[str] = set()
    for meta_graph in loader_impl.parse_saved_model(str(directory)).meta_graphs:
        if set(meta_graph.meta_info_def.tags) == tag_set:
            for walk in _reachable(meta_graph):
                refused.update(walk.refused(allowed))
    if refused:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            f"The graph runs {', '.join(sorted(refused))}, which this server does not allow: such "
            "operations can read or write files, use the network or call into Python. If you trust "
            "the model, start the server with --allow_file_operations=true.",
        )


def _reachable(meta_graph: Any) -> Iterator[_Walk]:
    """Yield one walk for each part that a server runs: signatures, initialisation and restore."""
    for key, signature in meta_graph.signature_def.items():
        if key == _INIT_SIGNATURE:
            continue  # the loader runs it; see _first_steps
        walk = _Walk(meta_graph.graph_def, fed={_full(i.name) for i in signature.inputs.values()})
        walk.follow(output.name for output in signature.outputs.values())
        yield walk
    assets = [asset for asset in _assets(meta_graph) if not leads_out(asset.filename)]
    walk = _Walk(meta_graph.graph_def, files={_node(asset.tensor_info.name) for asset in assets})
    walk.follow(_first_steps(meta_graph))
    yield walk
    saver = meta_graph.saver_def
    walk = _Walk(meta_graph.graph_def, files={_node(saver.filename_tensor_name)})
    walk.follow([saver.restore_op_name] if saver.restore_op_name else [])
    yield walk


def _assets(meta_graph: Any) -> list[Any]:
    from tensorflow.core.protobuf import meta_graph_pb2

    listed = meta_graph.collection_def["saved_model_assets"].any_list.value
    packed = [meta_graph_pb2.AssetFileDef.FromString(item.value) for item in listed]
    return [*meta_graph.asset_file_def, *packed]


def _first_steps(meta_graph: Any) -> list[str]:
    """Return the operations that the loader runs once, such as initialisers of tables."""
    names = [name for key in _MAIN_OPS for name in meta_graph.collection_def[key].node_list.value]
    if _INIT_SIGNATURE in meta_graph.signature_def:
        names += [o.name for o in meta_graph.signature_def[_INIT_SIGNATURE].outputs.values()]
    return names


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _full(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


class _Walk:
    """Collects the nodes that a run of a graph can reach, and the functions that they call.

    Args:
        graph: The GraphDef.
        fed: Names of the tensors whose values requests contain.
        files: Names of the nodes that the loader fills with paths of the model's own files.
    """

    def __init__(self, graph: Any, fed: Collection[str] = (), files: Collection[str] = ()) -> None:
        self._main = {node.name: node for node in graph.node}
        self._functions = {f.signature.name: f for f in graph.library.function}
        self._fed = fed
        self._files = set(files) - {""}  # a SaverDef may name no tensor; "" is also no source
        self._calls: set[tuple[str, tuple[str, ...]]] = set()
        self._found: list[tuple[Any, bool]] = []
        # TensorFlow may run these instead of a function that the graph names: the gradients for
        # SymbolicGradient, and functions with the same api_implements by choice of its optimizer.
        instead = [gradient.gradient_func for gradient in graph.library.gradient]
        instead += [name for name, f in self._functions.items() if "api_implements" in f.attr]
        for name in instead:
            self._call(name, [])

    def refused(self, allowed: Collection[str]) -> Iterator[str]:
        """Yield the names of the reached operations that are not allowed."""
        for node, reads_own_file in self._found:
            if node.op == _PRINT and node.attr["output_stream"].s.startswith(b"file:"):
                yield f"{_PRINT} to a file"
            elif any(value.placeholder for value in node.attr.values()):
                # A caller may fill it with a function or a file. Exported graphs have none.
                yield f"{node.op} with an attribute that is a placeholder"
            elif not (node.op in allowed or node.op in self._functions or reads_own_file):
                yield node.op

    def follow(self, names: Iterable[str]) -> None:
        """Reach the tensors or operations ``names`` of the main graph, and all that they need."""
        waiting = [_node(name) for name in names]
        seen = set(waiting)
        while waiting:
            node = self._main.get(waiting.pop())
            if node is None:
                continue
            self._reach(node, self._main, {})
            for tensor in node.input:
                # A tensor that the request feeds is not computed, so what leads to it never runs.
                # A control input (^name) cannot be fed.
                is_fed = not tensor.startswith("^") and _full(tensor) in self._fed
                if not is_fed and _node(tensor) not in seen:
                    seen.add(_node(tensor))
                    waiting.append(_node(tensor))

    def _reach(self, node: Any, body: Mapping[str, Any], arguments: Mapping[str, str]) -> None:
        position = _FILE_INPUT.get(node.op)
        own = position is not None and self._source(node, position, body, arguments) in self._files
        self._found.append((node, own))
        called = [node.op] if node.op in self._functions else []
        for value in node.attr.values():
            called += _named_functions(value)
        inputs = range(len(node.input)) if called and node.op in _CALLS else []
        sources = [self._source(node, index, body, arguments) for index in inputs]
        for name in called:
            self._call(name, sources)

    def _call(self, name: str, sources: list[str]) -> None:
        """Reach every node of a function, because its stateful operations run in any case."""
        function = self._functions.get(name)
        if function is None or (name, tuple(sources)) in self._calls:
            return
        self._calls.add((name, tuple(sources)))
        body = {node.name: node for node in function.node_def}
        names = [argument.name for argument in function.signature.input_arg]
        # Not strict: a graph that is made by hand may pass fewer arguments than the function has.
        arguments = dict(zip(names, sources, strict=False))
        for node in function.node_def:
            self._reach(node, body, arguments)

    def _source(
        self, node: Any, position: int, body: Mapping[str, Any], arguments: Mapping[str, str]
    ) -> str:
        """Return the node of the main graph whose value an input has unchanged; "" if none does."""
        for _ in range(len(body) + 1):  # a graph that is made by hand may run in a circle
            if position >= len(node.input):
                return ""
            name = _node(node.input[position])
            if name in arguments:
                return arguments[name]
            if body is self._main and name in self._files:
                return name
            source = body.get(name)
            if source is not None and source.op == "ReadVariableOp" and body is self._main:
                source = self._only_assignment(_node(source.input[0]))
                position = 1  # of the value in the inputs of AssignVariableOp
            elif source is not None and source.op in _PASSES_ON:
                position = 0
            else:
                return ""
            if source is None:
                return ""
            node = source
        return ""

    def _only_assignment(self, variable: str) -> Any:
        """Return the node that sets a variable; None unless it is certain that no other node does.

        This matters because an exported model keeps the path of a vocabulary in a variable.
        """
        users = [n for n in self._main.values() if variable in map(_node, n.input)]
        # Handles with the same shared_name are the same variable, wherever they are in the graph.
        bodies = [self._main.values(), *(f.node_def for f in self._functions.values())]
        shared = [_shared_name(n) for body in bodies for n in body if n.op == "VarHandleOp"]
        handle = self._main.get(variable)
        if handle is None or shared.count(_shared_name(handle)) != 1:
            return None
        if not {user.op for user in users} <= _PLAIN_USES:
            return None
        setting = [user for user in users if user.op == "AssignVariableOp"]
        return setting[0] if len(setting) == 1 else None


def _named_functions(value: Any) -> Iterator[str]:
    """Yield the functions that an attribute names, and those that their own attributes name."""
    for function in (value.func, *value.list.func):
        if function.name:
            yield function.name
        for inner in function.attr.values():
            yield from _named_functions(inner)


def _shared_name(handle: Any) -> str:
    return handle.attr["shared_name"].s.decode("utf-8", "replace") or str(handle.name)
