"""Graphs that could read or write files or run code are refused; others are loaded."""

from __future__ import annotations

import pytest

from imgpipe.serving.server.runtimes.allowed_ops import allowed_operations, registered
from imgpipe.serving.server.runtimes.graph_check import check
from imgpipe.serving.server.runtimes.runtime import SessionOptions, SessionRuntime
from imgpipe.serving.server.status import StatusError


def write(directory, body):
    """Save a model whose signature applies ``body`` to a string."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([], tf.string, name="path")
    module.serve = tf.function(lambda path: {"out": body(path)}, input_signature=[spec])
    tf.saved_model.save(module, str(directory), signatures=module.serve)
    return directory


def in_a_branch(path):
    import tensorflow as tf

    return tf.cond(tf.strings.length(path) > 3, lambda: tf.io.read_file(path), lambda: path)


def printing(path):
    import tensorflow as tf

    with tf.control_dependencies([tf.print(path, output_stream="file:///tmp/x")]):
        return tf.identity(path)


def python(path):
    import tensorflow as tf

    return tf.numpy_function(lambda p: p, [path], tf.string)


def text_line_data_set(path):
    import tensorflow as tf

    return tf.data.TextLineDataset(path).reduce(b"", lambda _, line: line)


def save(path):
    import tensorflow as tf

    tf.raw_ops.SaveV2(prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[path])
    return path


def records(path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors(path)
    variant = data._variant_tensor
    tf.raw_ops.DatasetToTFRecord(input_dataset=variant, filename=path, compression_type="")
    return path


def restore(path):
    import tensorflow as tf

    return tf.raw_ops.RestoreV2(
        prefix=path, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string]
    )[0]


def in_a_loop(path):
    import tensorflow as tf

    return tf.map_fn(lambda p: tf.raw_ops.MatchingFiles(pattern=p)[0], path[None])[0]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        (in_a_branch, "ReadFile"),
        (printing, "PrintV2 to a file"),
        (python, "PyFunc"),
        (text_line_data_set, "TextLineDataset"),
        (save, "SaveV2"),
        (records, "DatasetToTFRecord, TensorDataset"),
        (restore, "RestoreV2"),
        (in_a_loop, "MatchingFiles"),
    ],
)
def test_graphs_with_file_or_code_operations_are_refused(tmp_path, body, op):
    directory = write(tmp_path / "1", body)
    with pytest.raises(StatusError, match=f"The graph runs .*{op}, .*--allow_file_operations=true"):
        SessionRuntime(directory)
    SessionRuntime(directory, SessionOptions(any_op=True)).close()


def test_a_graph_that_restores_another_file_is_refused(tmp_path):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    module = tf.Module()
    module.a = tf.Variable(1.0)
    spec = tf.TensorSpec([], tf.float32, name="x")
    module.serve = tf.function(lambda x: {"y": x + module.a}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    check(tmp_path, ["serve"])
    file = tmp_path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = model.meta_graphs[0].graph_def
    graph.node.add(name="other", op="Const")
    restoring = model.meta_graphs[0].saver_def.restore_op_name
    (node,) = [node for node in graph.node if node.name == restoring]
    node.input[0] = "other"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(StatusError, match="The graph runs RestoreV2"):
        check(tmp_path, ["serve"])


def write_with_vocabulary(directory):
    """Save a model that looks words up in a file of its own assets."""
    import tensorflow as tf

    words = directory.parent / "words.txt"
    words.write_text("cat\ndog\n")
    module = tf.Module()
    reader = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
    )  # fmt: skip
    module.table = tf.lookup.StaticHashTable(reader, -1)
    spec = tf.TensorSpec([None], tf.string, name="word")
    module.serve = tf.function(lambda w: {"y": module.table.lookup(w)}, input_signature=[spec])
    tf.saved_model.save(module, str(directory), signatures=module.serve)
    return directory


def test_a_vocabulary_in_the_assets_of_the_model_is_allowed(tmp_path):
    import numpy as np

    directory = write_with_vocabulary(tmp_path / "1")
    runtime = SessionRuntime(directory)
    signature = runtime.signatures["serving_default"]
    words = np.array([b"dog"], dtype=object)
    names = [signature.inputs["word"].name], [words], [signature.outputs["y"].name]
    assert runtime.run(*names)[0].tolist() == [1]
    runtime.close()


def test_a_vocabulary_outside_the_model_is_refused(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    directory = write_with_vocabulary(tmp_path / "1")
    file = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    model.meta_graphs[0].asset_file_def[0].filename = "../../words.txt"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(StatusError, match="The graph runs InitializeTableFromTextFileV2"):
        check(directory, ["serve"])


def test_ordinary_models_are_allowed(models):
    for name in ("half_plus_two", "images", "unservable"):
        check(models / name, ["serve"])


ALLOWED = """
    BatchFunction Conv2D DecodeImage DecodeJpeg LookupTableFindV2 MatMul ParseExampleV2
    RandomUniform ResizeBilinear StatefulPartitionedCall TensorListStack TopKV2 VarHandleOp
    While XlaCallModule
"""
REFUSED = """
    Abort CacheDatasetV2 Copy CreateSummaryFileWriter DataServiceDatasetV4 DatasetFromGraph
    DatasetToTFRecord DebugIdentityV3 DecodeProtoV2 DistributedSave DumpTensor EagerPyFunc
    EncodeProto FixedUnigramCandidateSampler GenerateVocabRemapping ImmutableConst
    LoadAndRemapMatrix MatchingFiles MergeV2Checkpoints MlirPassthroughOp PyFunc PyFuncStateless
    ReadFile RecordInput Recv RemoteCall RestoreV2 RpcCall RpcServer SaveV2 Send
    SnapshotDatasetV2 SqlDataset TFRecordDatasetV2 TextLineDataset WholeFileReaderV2 WriteFile
    XlaCustomCallV2
"""


def test_operations_on_files_or_code_are_not_on_the_list_of_allowed_ones():
    allowed, names = allowed_operations(), {op.name for op in registered()}
    assert set(ALLOWED.split()) - allowed == set()
    assert set(REFUSED.split()) - names == set(), "TensorFlow has these"
    assert set(REFUSED.split()) & allowed == set()


def function(name, body):
    """Return a function of a string in text format."""
    return f"""function {{
        signature {{
            name: "{name}"
            input_arg {{ name: "x" type: DT_STRING }} output_arg {{ name: "y" type: DT_STRING }}
        }}
        {body}
    }}"""


def call(named, op="PartitionedCall"):
    """Return a node that calls a function, which is given in text format."""
    return f'node {{ name: "g" op: "{op}" attr {{ key: "f" value {{ func {{ {named} }} }} }} }}'


READ = 'node_def { name: "r" op: "ReadFile" input: "x" } ret { key: "y" value: "r:contents:0" }'
PRINT = """
    node_def { name: "p" op: "PrintV2" input: "x"
        attr { key: "output_stream" value { placeholder: "to" } } }
    ret { key: "y" value: "x" }
"""
NOTHING = 'ret { key: "y" value: "x" }'
LIKE = 'attr { key: "api_implements" value { s: "thing" } }'
INNER = 'attr { key: "f" value { func { name: "evil" } } }'
TO_FILE = 'attr { key: "to" value { s: "file:///tmp/x" } }'
BY_HAND = {
    "a gradient": (
        call('name: "good"', "SymbolicGradient"),
        function("good", NOTHING)
        + function("evil", READ)
        + 'gradient { function_name: "good" gradient_func: "evil" }',
        "ReadFile",
    ),
    "a function that is called for its gradient": (
        call(f'name: "SymbolicGradient" {INNER}'),
        function("evil", READ),
        "ReadFile",
    ),
    "another implementation": (
        call('name: "good"'),
        function("good", LIKE + NOTHING) + function("evil", LIKE + READ),
        "ReadFile",
    ),
    "an attribute that the caller fills": (
        call(f'name: "evil" {TO_FILE}'),
        function("evil", PRINT),
        "PrintV2 with an attribute that is a placeholder",
    ),
}


def write_graph(directory, nodes, functions):
    """Save a graph that is made by hand, whose signature returns the value of node g."""
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    text_format.Parse(nodes, graph.graph_def)
    text_format.Parse(functions, graph.graph_def.library)
    graph.signature_def["serving_default"].outputs["y"].name = "g:0"
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(("node", "functions", "refused"), BY_HAND.values(), ids=BY_HAND)
def test_functions_that_tensorflow_runs_without_a_plain_call_are_checked(
    tmp_path, node, functions, refused
):
    write_graph(tmp_path, node, functions)
    with pytest.raises(StatusError, match=f"The graph runs {refused}, which"):
        check(tmp_path, ["serve"])


def test_functions_that_may_be_run_instead_of_others_are_allowed_like_others(tmp_path):
    both = function("good", LIKE + NOTHING) + function("also", LIKE + NOTHING)
    write_graph(tmp_path, call('name: "good"'), both)
    check(tmp_path, ["serve"])


def test_a_cyclic_graph_is_refused_and_does_not_hang(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    for name, before in (("a", "b"), ("b", "a")):
        graph.graph_def.node.add(name=name, op="Identity", input=[before])
    graph.graph_def.node.add(name="restore", op="RestoreV2", input=["a", "b", "b"])
    graph.saver_def.restore_op_name = "restore"
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(StatusError, match="RestoreV2, which this server does not allow"):
        check(tmp_path, ["serve"])
