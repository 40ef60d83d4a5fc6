"""Every Beam engine that runs on one machine produces the same records.

With each engine the number of images that come in equals kept + rejected.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgpipe.models import feature_names as names
from tests.e2e.case import SETTINGS

pytestmark = pytest.mark.slow

_PROGRAM = """
import json, sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.beam_driver import Uris, filter_examples
from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.example_gen.ingestion import IngestSettings, ingest

photos, root, *flags = sys.argv[1:]
pipeline = lambda: beam.Pipeline(options=PipelineOptions(flags))
scan = open_source(photos).scan()
ingest(pipeline(), f"{root}/examples", IngestSettings(photos, scan.vocabulary, shard_size=32))
uris = Uris(*(f"{root}/{name}" for name in ("examples", "kept", "metadata", "quarantine")))
filter_examples(pipeline(), uris, Settings(), scan.vocabulary)
"""

ENGINES = {
    "bundle": ("--runner=BundleBasedDirectRunner",),
    "threads": (
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_threading",
        "--direct_num_workers=2",
    ),
    "processes": (
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ),
    "portable": (
        "--runner=PortableRunner",
        "--job_endpoint={endpoint}",
        "--environment_type=LOOPBACK",
    ),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the drawn demo set, which contains faults."""
    from imgpipe.pipeline.demo import draw

    return Path(
        draw(tmp_path_factory.mktemp("engines") / "photos", per_class=12, size=96).directory
    )


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory):
    """Start Beam's own job server in Python on a loopback port and return its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    log = (tmp_path_factory.mktemp("job") / "log").open("w")
    server = subprocess.Popen([*program, f"--port={port}"], stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"localhost:{port}"
    server.terminate()
    server.wait(timeout=30)
    log.close()


def outcome(photos: Path, root: Path, flags: tuple[str, ...]) -> dict[str, object]:
    """Return everything that ingestion and filter write, in canonical order."""
    from imgpipe.components.storage.records import iterate, serialise

    root.mkdir()
    command = [sys.executable, "-c", _PROGRAM, str(photos), str(root), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    quarantine = root / "quarantine"
    rejects = [json.loads(x) for x in (quarantine / "manifest.jsonl").read_text().splitlines()]
    summary = json.loads((quarantine / "summary.json").read_text())
    assert summary["in"] == summary["kept"] + summary["rejected"]
    kinds = ("examples", "kept", "metadata")
    return {
        "rejects": sorted(rejects, key=lambda reject: reject["path"]),
        "summary": summary,
        **{
            kind: sorted(
                serialise(e) for split in names.SPLITS for e in iterate(root / kind, split)
            )
            for kind in kinds
        },
    }


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the outcome of the in-process engine."""
    root = tmp_path_factory.mktemp("expected") / "out"
    return outcome(photos, root, ("--runner=FnApiRunner",))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_produces_the_same_records(engine, photos, expected, tmp_path, request):
    flags = ENGINES[engine]
    if engine == "portable":
        address = request.getfixturevalue("endpoint")
        flags = tuple(flag.format(endpoint=address) for flag in flags)
    found = outcome(photos, tmp_path / "out", flags)
    assert found["summary"]["in"] > 0
    for part, value in expected.items():
        assert found[part] == value, part


@pytest.mark.timeout(900)
def test_a_whole_run_succeeds_in_worker_processes(photos, tmp_path):
    """The run includes TFX's Evaluator; the table of so few images is described without Beam."""
    from imgpipe.pipeline.configuration import config as configs

    tree = {**SETTINGS, "data": {"source": str(photos)}}
    tree["beam"] = {"args": [*ENGINES["processes"]]}
    tree["gate"] = {**SETTINGS["gate"], "min_train": 2, "max_rejected_share": 0.5}
    (tmp_path / "config.toml").write_text(configs.to_toml(configs.build(tree)))
    command = [
        sys.executable,
        "-m",
        "imgpipe.pipeline.cli",
        "run",
        str(tmp_path / "config.toml"),
    ]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--set", "evaluate.threshold=0.0"],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
