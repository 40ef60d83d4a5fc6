"""Names of files of the evaluation."""

from __future__ import annotations

#: File in the model artifact of Baseline, which says whether there is a model and why not.
BASELINE_FILE = "baseline.json"
#: Folder in a version's provenance, and in the model artifact of Baseline, with the predictions of
#: the run that published the version: its answers for the held-out images of that run.
ANSWERS_FOLDER = "answers"
