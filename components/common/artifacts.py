"""The artifact types that this package adds to the standard ones of TFX, and marks on Examples.

Kubeflow's compiler accepts a custom type only when it is importable as
`<top-level package>.<Name>`, its TYPE_NAME is `<package>.<Name>` and it declares no
PROPERTIES. Custom properties are allowed.
"""

from __future__ import annotations

from tfx.types.artifact import Artifact

from imgpipe.components.common.storage.records import SPLIT_NAMES_JSON


class RunPlan(Artifact):
    """Plan's result: `plan.json`, the parameters of the components after it."""

    TYPE_NAME = "imgpipe.RunPlan"


class Quarantine(Artifact):
    """The rejected files with their bytes, `manifest.jsonl` and `counts.json`."""

    TYPE_NAME = "imgpipe.Quarantine"


class DataBlessing(Artifact):
    """DataGate's decision: a file `BLESSED` or `NOT_BLESSED`, and `gate.json`."""

    TYPE_NAME = "imgpipe.DataBlessing"


class RunReport(Artifact):
    """The self-contained `report.html`, and the `facts.json` that it was rendered from."""

    TYPE_NAME = "imgpipe.RunReport"


def mark_examples(artifact: Artifact) -> None:
    """Record on an Examples artifact that its files hold tf.Examples of all three splits."""
    from tfx.components.util import examples_utils
    from tfx.proto import example_gen_pb2

    artifact.split_names = SPLIT_NAMES_JSON
    examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
