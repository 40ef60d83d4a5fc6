"""A wall clock that runs too fast must not make the serving check fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trials.test_failing_disk import compiled

RATE = 100  # an hour passes in 36 seconds
_PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from imgpipe.components.serving_validator.component import validate
images = [Path(path).read_bytes() for path in sys.argv[3:]]
checks = validate(sys.argv[1], images, np.asarray(json.loads(sys.argv[2]), np.float32))
print(json.dumps([[check.name, check.passed, check.detail] for check in checks]))
"""


def _export(folder: Path) -> Path:
    """Save a model that answers the softmax of each channel's mean, as an export of ours does."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def decode(one: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.io.decode_image(one, 3, expand_animations=False), tf.float32)

        spec = tf.TensorSpec((None, None, 3), tf.float32)
        means = tf.reduce_mean(tf.map_fn(decode, image_bytes, fn_output_signature=spec), [1, 2])
        answer = tf.nn.softmax(means)
        classes = tf.tile([["red", "green", "blue"]], [tf.shape(answer)[0], 1])
        return {"probabilities": answer, "classes": classes}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


@pytest.mark.slow
def test_the_serving_check_passes_with_a_fast_wall_clock(tmp_path: Path):
    tf = pytest.importorskip("tensorflow")
    library = compiled("fast_clock", tmp_path)
    image = tmp_path / "image.png"
    image.write_bytes(tf.io.encode_png(np.full((8, 8, 3), [9, 5, 7], np.uint8)).numpy())
    expected = tf.nn.softmax([[9.0, 5.0, 7.0]]).numpy().tolist()
    arguments = [str(_export(tmp_path / "export")), json.dumps(expected), str(image)]
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_RATE": str(RATE)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    checks = json.loads(result.stdout)
    assert [name for name, passed, _ in checks if not passed] == [], checks
    assert len(checks) == 5
