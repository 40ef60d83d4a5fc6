"""Names of the files in the folder of a run that the report reads or writes."""

from __future__ import annotations

from typing import Final

TIMINGS: Final = "timings.json"  # the local runner updates it during the run
LOG: Final = "run.log"
PAGE: Final = "report.html"
FACTS: Final = "facts.json"
CONFIG: Final = "config.toml"
