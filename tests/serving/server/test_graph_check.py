"""Graphs that could touch the machine are not loaded; the others are."""

from __future__ import annotations

import pytest

from imgpipe.serving.server.graph_check import check
from imgpipe.serving.server.runtime import SessionOptions, SessionRuntime
from imgpipe.serving.server.status import StatusError


def write(directory, body):
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


@pytest.mark.parametrize(
    ("body", "op"),
    [(in_a_branch, "ReadFile"), (printing, "PrintV2 to a file"), (python, "PyFunc")],
)
def test_graphs_that_could_touch_the_machine(tmp_path, body, op):
    directory = write(tmp_path / "1", body)
    with pytest.raises(StatusError, match=f"The graph holds {op}.*--allow_file_operations"):
        SessionRuntime(directory)
    SessionRuntime(directory, SessionOptions(any_op=True)).close()


def test_ordinary_models_are_none_of_them(models):
    for name in ("half_plus_two", "images", "unservable"):
        check(models / name, ["serve"])
