"""Names of the files in the folder of a run."""

from __future__ import annotations

from typing import Final

CONFIG: Final = "config.toml"  # with which the run can be repeated
TIMINGS: Final = "timings.json"  # the local runner updates it during the run
LOG: Final = "run.log"
PAGE: Final = "report.html"
FACTS: Final = "facts.json"
SUMMARY: Final = "summary.json"
ARTIFACTS: Final = "artifacts.json"  # where each output of a component is
