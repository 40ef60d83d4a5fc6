"""Tests that clusters give the Examples, features and verdicts of the local runner.

Every run is a process of its own on the same images. Workers are processes of
`imgpipe-beam-worker` that the cluster starts.
"""

import contextlib
import threading
import time

import pytest

from tests.engines import clusters
from tests.engines.hosts import two_hosts
from tests.engines.runs import outcome, require_same, start

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3600)]
PARALLEL = "beam.args=['--parallelism=2']"


def test_flink_on_two_hosts_gives_the_results_of_the_local_runner(photos, expected, tmp_path):
    """The cluster has a JobManager and two TaskManagers, and the hosts share a folder."""
    out = tmp_path / "out"
    with (
        two_hosts() as (master, hosts),
        clusters.flink(tmp_path / "cluster", master, hosts) as cluster,
    ):
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", PARALLEL, address)
        require_same(outcome(run, out), expected)
        assert {len(used) for used in cluster.task_managers()} == {2}, "both have worked"
    assert not [path for name in ("bank", "judge") for path in (out / name).rglob("*.sqlite*")]


def test_flink_survives_the_loss_of_a_task_manager(photos, expected, tmp_path):
    """A TaskManager is killed during ImageFilter, and the other one completes the work."""
    out = tmp_path / "out"
    with clusters.flink(tmp_path / "cluster") as cluster:
        address = f"beam.job_endpoint={cluster.endpoint}"
        run = start(photos, out, "beam.runner=flink", PARALLEL, address)
        killed = threading.Thread(target=_kill_at, args=(cluster, "Write"))
        killed.start()
        try:
            require_same(outcome(run, out), expected)
        finally:
            killed.join(timeout=60)
        assert cluster.failed_tasks(), "killed too late"
        assert cluster.processes.running["taskmanager-0"].returncode == -9


def _kill_at(cluster: clusters.Cluster, task: str, seconds: float = 1500) -> None:
    """Kill a TaskManager as soon as a task of this name runs; give up after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, KeyError):  # raised while the job is being submitted
            if any(task in name for name in cluster.running_tasks()):
                cluster.processes.kill("taskmanager-0")
                return
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("cluster", "settings"),
    [
        # A standalone one with a master and two workers.
        pytest.param(clusters.spark, ("beam.runner=spark",), id="spark"),
        # The workers of the job server are threads of the process of `imgpipe run`.
        pytest.param(
            clusters.job_service,
            ("beam.runner=portable", "beam.args=['--environment_type=LOOPBACK']"),
            id="loopback",
        ),
    ],
)
def test_other_engines_give_the_results_of_the_local_runner(
    photos, expected, tmp_path, cluster, settings
):
    out = tmp_path / "out"
    with cluster(tmp_path / "cluster") as running:
        run = start(photos, out, *settings, f"beam.job_endpoint={running.endpoint}")
        require_same(outcome(run, out), expected)
