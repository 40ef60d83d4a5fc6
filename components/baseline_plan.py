"""What Baseline gets."""

from __future__ import annotations

from imgpipe.components.common.settings import ComponentPlan

#: File in the model artifact of Baseline, which says whether there is a model and why not.
BASELINE_FILE = "baseline.json"
#: Folder in a version's provenance, and in the model artifact of Baseline, with the predictions of
#: the run that published the version: its answers for the held-out images of that run.
ANSWERS_FOLDER = "answers"


class BaselinePlan(ComponentPlan):
    """What Baseline gets.

    Attributes:
        push_directory: Base path of the published versions.
        version: Number of the version to compare with, 0 for none.
        digest: Fingerprint of that version, so that a changed version invalidates the cached copy.
        why_none: Why there is none; "" if there is one.
        vocabulary: Class names of this run in sorted order. The models are compared on the classes
            that both know, if there are several.
    """

    push_directory: str
    version: int
    digest: str
    why_none: str
    vocabulary: tuple[str, ...]
