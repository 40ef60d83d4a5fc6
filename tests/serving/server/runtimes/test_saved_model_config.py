"""Session settings that a SavedModel brings along."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tensorflow.core.protobuf import config_pb2

from imgpipe.serving.server.runtimes import saved_model_config
from imgpipe.serving.server.runtimes.runtime import SessionRuntime
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.textproto import make_message


@pytest.fixture
def version(models, tmp_path):
    """Return a copy of half_plus_two to which settings can be added."""
    shutil.copytree(models / "half_plus_two", tmp_path / "1")
    (tmp_path / "1" / "assets.extra").mkdir()
    return tmp_path / "1"


def test_a_model_can_turn_the_optimizer_off(version, caplog):
    message = make_message("SavedModelConfig")
    message.session_overrides.disable_meta_optimizer = True
    message.session_overrides.batch_op_rewriter_config = b"\x0a\x00"
    message.critical = True
    (version / saved_model_config.FILE).write_bytes(message.SerializeToString())
    config = config_pb2.ConfigProto()
    saved_model_config.apply(version, config)
    assert config.graph_options.rewrite_options.disable_meta_optimizer
    assert "no effect on this server: batch_op_rewriter_config, critical" in caplog.text
    runtime = SessionRuntime(version)
    signature = runtime.signatures["serving_default"]
    names = [signature.inputs["x"].name], [np.float32([2.0])], [signature.outputs["y"].name]
    assert runtime.run(*names)[0].tolist() == [3.0]
    runtime.close()


def test_without_the_file_nothing_changes(version):
    config = config_pb2.ConfigProto()
    saved_model_config.apply(version, config)
    assert config == config_pb2.ConfigProto()


def test_a_damaged_file_fails_the_load(version):
    (version / saved_model_config.FILE).write_bytes(b"\xff not a message")
    with pytest.raises(StatusError, match="Unable to parse SavedModelConfig") as error:
        SessionRuntime(version)
    assert error.value.code == Code.INTERNAL
