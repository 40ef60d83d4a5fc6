"""The whole pipeline on clusters: the records, features and verdicts of the local runner.

Every run is a process of its own on the same photographs. Workers are processes of
`imgpipe-beam-worker` that the cluster starts.
"""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from tests.engines import clusters
from tests.engines.hosts import two_hosts
from tests.engines.runs import outcome, require_same, start

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3600)]


def test_flink(photos, expected, tmp_path):
    """Standalone Flink: a JobManager and two TaskManagers."""
    out = tmp_path / "out"
    with clusters.flink(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", "beam.parallelism=2", address)
        require_same(outcome(run, out), expected)
        assert {len(used) for used in cluster.task_managers()} == {2}, "both have worked"
    assert not [path for name in ("bank", "judge") for path in (out / name).rglob("*.sqlite*")]


def test_flink_loses_a_task_manager(photos, expected, tmp_path):
    """A TaskManager is killed while ImageFilter works; the other one does all of it."""
    out = tmp_path / "out"
    with clusters.flink(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", "beam.parallelism=2", address)
        killed = threading.Thread(target=_kill_at, args=(cluster, "Examine"))
        killed.start()
        try:
            require_same(outcome(run, out), expected)
        finally:
            killed.join(timeout=60)
        assert cluster.failed_tasks(), "killed too late"
        assert cluster.processes.running["taskmanager-0"].returncode == -9


def _kill_at(cluster: clusters.Cluster, task: str, seconds: float = 1500) -> None:
    """Kill a TaskManager as soon as a task of this name runs; without one, none is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, KeyError):  # a job that is just being submitted
            if any(task in name for name in cluster.running_tasks()):
                cluster.processes.kill("taskmanager-0")
                return
        time.sleep(0.1)


def test_spark(photos, expected, tmp_path):
    """Standalone Spark: a master and two workers."""
    out = tmp_path / "out"
    with clusters.spark(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        require_same(outcome(start(photos, out, "beam.runner=spark", address), out), expected)


def test_loopback(photos, expected, tmp_path):
    """A job server whose workers are threads of the process of ``imgpipe run``."""
    out = tmp_path / "out"
    with clusters.job_service(tmp_path / "service") as service:
        address = f"beam.job_endpoint={service.endpoint}"
        run = start(photos, out, "beam.runner=portable", "beam.environment=LOOPBACK", address)
        require_same(outcome(run, out), expected)


def test_flink_on_two_hosts(photos, expected, tmp_path):
    """Hosts with an address each, which share a folder; workers run in their host's network."""
    out = tmp_path / "out"
    with (
        two_hosts() as (master, hosts),
        clusters.flink(tmp_path / "cluster", master, hosts) as cluster,
    ):
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", "beam.parallelism=2", address)
        require_same(outcome(run, out), expected)
        assert {len(used) for used in cluster.task_managers()} == {2}, "both have worked"
