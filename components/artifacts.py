"""Artifact types of ours, beside TFX's standard ones.

Kubeflow's compiler accepts a custom type only when it is importable as
``<top-level package>.<Name>``, its TYPE_NAME is ``<package>.<Name>`` and it declares no
PROPERTIES (custom properties are free).
"""

from __future__ import annotations

from tfx.types.artifact import Artifact

#: Folder of the LiteRT files that may be pushed.
BLESSED_LITE = "blessed"


class Quarantine(Artifact):
    """Rejected files with their bytes, ``manifest.jsonl`` and ``summary.json``."""

    TYPE_NAME = "imgpipe.Quarantine"


class DataBlessing(Artifact):
    """DataGate's decision: file ``BLESSED`` or ``NOT_BLESSED`` and ``gate.json``."""

    TYPE_NAME = "imgpipe.DataBlessing"


class LiteModels(Artifact):
    """LiteRT files, blessed ones below ``blessed/``, others below ``refused/``; ``lite.json``."""

    TYPE_NAME = "imgpipe.LiteModels"


class RunReport(Artifact):
    """``report.html``, self-contained, and ``facts.json`` it was drawn from."""

    TYPE_NAME = "imgpipe.RunReport"
