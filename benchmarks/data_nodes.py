"""The data half of the pipeline's graph on one source; `benchmarks.scale --graph` starts it.

    python -m benchmarks.data_nodes SOURCE OUT

The graph, its engine and its runner are those of ``imgpipe run``; it stops when StatisticsGen is
done. The last line is JSON: images read, and of each node processor seconds and peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from imgpipe.pipeline import config as configs
from imgpipe.pipeline import graph, inputs, run
from imgpipe.pipeline.runners import local

if TYPE_CHECKING:
    from imgpipe.pipeline.runners.local import NodeResult

LAST = "StatisticsGen"
NODES = ("ImageExampleGen", "ImageFilter", LAST)


class _Enough(Exception):
    """What was to be measured is done."""


@dataclass
class _Meter:
    """Observer of the runner: what each node cost."""

    nodes: dict[str, dict[str, float]] = field(default_factory=dict)
    quarantine: str = ""
    _began: float = 0.0

    def started(self, name: str) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of this node
        self._began = time.process_time()

    def finished(self, result: NodeResult) -> None:
        used = time.process_time() - self._began
        if result.name in NODES:
            self.nodes[result.name] = {"processor": used, "peak_mib": _peak_mib()}
        self.quarantine = result.outputs.get("quarantine", self.quarantine)
        if result.name == LAST:
            raise _Enough

    def failed(self, name: str, seconds: float) -> None:
        print(f"{name} failed after {seconds:.0f} s", file=sys.stderr)


def _peak_mib() -> float:
    """Most resident memory of this process since `clear_refs` was written."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def main(source: str, out: str) -> None:
    """Run the nodes, print what they cost."""
    config = configs.build({"data": {"source": source}, "run": {"out": out}})
    Path(out).mkdir(parents=True)
    scan = run.scan(config)
    place = graph.Place(f"{out}/artifacts", local.metadata_config(Path(out) / "metadata.sqlite"))
    meter = _Meter()
    try:
        local.run(graph.create_pipeline(config, inputs.find(config, scan), place), meter)
    except _Enough:
        summary = json.loads((Path(meter.quarantine) / "summary.json").read_text())
        counts = {key: summary[key] for key in ("in", "kept", "rejected")}
        print(json.dumps({**counts, "nodes": meter.nodes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
