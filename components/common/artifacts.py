"""The artifact types that this package adds to those of TFX, and what marks artifacts.

Kubeflow's compiler accepts a custom type only when it is importable as
`<top-level package>.<Name>`, its TYPE_NAME is `<package>.<Name>` and it declares no
PROPERTIES. Custom properties are allowed.

A gate holds by data: each component that depends on a gate reads the marker file of its blessing.
"""

from __future__ import annotations

import tensorflow as tf
from tfx.types.artifact import Artifact

from imgpipe.components.common.storage.records import SPLIT_NAMES_JSON
from imgpipe.models.errors import DataRefused

BLESSED = "BLESSED"
NOT_BLESSED = "NOT_BLESSED"
INFRA_BLESSED = "INFRA_BLESSED"
INFRA_NOT_BLESSED = "INFRA_NOT_BLESSED"
#: File of an infra blessing that lists the validated files, as `manifest.describe` returns them.
VALIDATED = "validated.json"
VALIDATION = "validation.json"  # the checks of ServingValidator


class RunPlan(Artifact):
    """Plan's result: `plan.json`, the parameters of the components after it."""

    TYPE_NAME = "imgpipe.RunPlan"


class Quarantine(Artifact):
    """The rejected files with their bytes, `findings.jsonl` and `counts.json`."""

    TYPE_NAME = "imgpipe.Quarantine"


class DataBlessing(Artifact):
    """DataGate's decision: a file `BLESSED` or `NOT_BLESSED`, and `gate.json`."""

    TYPE_NAME = "imgpipe.DataBlessing"


class RunReport(Artifact):
    """The self-contained `report.html`, and the `result.json` that it was rendered from."""

    TYPE_NAME = "imgpipe.RunReport"


def mark_examples(artifact: Artifact) -> None:
    """Record on an Examples artifact that its files hold tf.Examples of all three splits."""
    from tfx.components.util import examples_utils
    from tfx.proto import example_gen_pb2

    artifact.split_names = SPLIT_NAMES_JSON
    examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)


def is_blessed(uri: str, name: str = BLESSED) -> bool:
    """Check whether a blessing artifact holds a marker file."""
    return bool(tf.io.gfile.exists(f"{uri}/{name}"))


def mark(uri: str, name: str) -> None:
    """Write an empty marker file, as TFX's own gates do; the artifact is created when absent."""
    tf.io.gfile.makedirs(uri)
    with tf.io.gfile.GFile(f"{uri}/{name}", "w") as file:
        file.write("")


def require_data_blessing(uri: str) -> None:
    """Check that DataGate blessed the data.

    Raises:
        DataRefused: The DataBlessing artifact at `uri` holds no `BLESSED` file.
    """
    if not is_blessed(uri):
        raise DataRefused(
            f"the data was not blessed: no {BLESSED} file in {uri}. Look at gate.json there for "
            "the reasons, correct the data or the limits under [gate], and run again."
        )
