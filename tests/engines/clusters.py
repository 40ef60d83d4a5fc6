"""Small clusters of Flink and Spark on this machine, from the packages of `make test-engines`.

Each cluster has a master, two workers and Beam's job server. A host is this machine or a network
namespace with an address of its own.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port, listens

#: Folder into which `make test-engines` installs the packages.
TOOLS = Path(__file__).parents[2] / ".engines"
HEAP = "-Xmx768m"
_START_SECONDS = 300
#: Packages that Flink, Spark and Beam access and that Java 17 closes. The list is from Flink's own
#: default configuration and Spark's JavaModuleOptions.
_OPENED = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio"),
    *("java.text", "java.time", "java.util", "java.util.concurrent"),
    *("java.util.concurrent.atomic", "java.util.concurrent.locks"),
    *("sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar", "sun.net.util"),
)
OPEN = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]


@dataclass(frozen=True)
class Host:
    """A host for processes: its address, and the words that precede each command."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


def require(*parts: str) -> list[Path]:
    """Return paths below the folder of the packages, or skip the test if one is missing."""
    if shutil.which("java") is None:
        pytest.skip("Java is missing: install a JDK 17 and run make test-engines")
    paths = [TOOLS / part for part in parts]
    for path in paths:
        if not path.exists():
            pytest.skip(f"{path} is missing: run make test-engines, which installs it")
    return paths


@dataclass
class Processes:
    """Processes that each write a log into one folder and that `stop` ends."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, host: Host, command: Sequence[str | Path], **env: str) -> None:
        """Start a process on a host; `env` is added to the environment."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [*host.prefix, *map(str, command)],
                stdout=log,
                stderr=log,
                env={**os.environ, **env},
                cwd=self.folder,
            )

    def await_port(self, name: str, address: str, port: int) -> None:
        """Wait until the process `name` listens on a port."""
        self.await_true(name, lambda: listens(port, address))

    def await_true(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until `ready` returns true; raise RuntimeError if a process has ended meanwhile."""
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            ended = [one for one, process in self.running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                wrong = ended[0] if ended else name
                raise RuntimeError(f"{wrong} did not start: {self.log(wrong)[-3000:]}")
            time.sleep(0.2)

    def log(self, name: str) -> str:
        """Return the output of a process."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """End a process with SIGKILL, as a power failure would."""
        self.running[name].kill()
        self.running[name].wait(timeout=30)

    def stop(self) -> None:
        """End all processes, the last one that was started first."""
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=15)


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the address of its job server, its processes and Flink's REST API."""

    endpoint: str
    processes: Processes
    rest: str = ""  # URL of Flink's REST API

    def failed_tasks(self) -> list[str]:
        """Return the names of the tasks of Flink's jobs that failed, even if retried later."""
        failures = [_get(f"{job}/exceptions") for job in self._jobs()]
        entries = [entry for each in failures for entry in each["exceptionHistory"]["entries"]]
        return [entry["taskName"] for entry in entries if entry.get("taskName")]

    def running_tasks(self) -> list[str]:
        """Return the names of the running tasks of Flink's jobs."""
        vertices = [vertex for job in self._jobs() for vertex in _get(job)["vertices"]]
        return [vertex["name"] for vertex in vertices if vertex["status"] == "RUNNING"]

    def task_managers(self) -> list[set[str]]:
        """Return the ids of the TaskManagers that had tasks, for each of Flink's jobs."""
        return [
            {
                task["taskmanager-id"]
                for vertex in _get(job)["vertices"]
                for task in _get(f"{job}/vertices/{vertex['id']}")["subtasks"]
            }
            for job in self._jobs()
        ]

    def _jobs(self) -> list[str]:
        """Return the URLs of Flink's jobs."""
        jobs = _get(f"{self.rest}/jobs/overview")["jobs"]
        return [f"{self.rest}/jobs/{job['jid']}" for job in jobs]


@contextlib.contextmanager
def flink(
    folder: Path, master: Host = Host(), workers: Sequence[Host] = (Host(), Host())
) -> Iterator[Cluster]:
    """Run a standalone Flink cluster until the block ends.

    It has a JobManager, one TaskManager on each host of `workers`, and Beam's job server.
    """
    libraries, jar = require("python/pyflink/lib", "flink/flink-job-server.jar")
    rpc, rest, job = free_port(), free_port(), free_port()
    processes = Processes(folder)
    base = {
        "jobmanager.rpc.address": master.address,
        "jobmanager.rpc.port": rpc,
        "rest.address": master.address,
        "rest.bind-address": master.address,
        "rest.port": rest,
        "io.tmp.dirs": folder,
        # After the loss of a TaskManager, the job restarts on the remaining slots.
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 5,
        "restart-strategy.fixed-delay.delay": "2 s",
        "heartbeat.timeout": 20000,
        "heartbeat.interval": 3000,
        "slot.request.timeout": 120000,
        # On a busy machine, these take longer than the defaults of 10 s.
        "pekko.startup-timeout": "120 s",
        "pekko.ask.timeout": "60 s",
        # Flink's start scripts, which are not used here, would compute these sizes.
        "taskmanager.numberOfTaskSlots": 2,
        "taskmanager.load-balance.mode": "SLOTS",  # otherwise Flink fills one TaskManager first
        "taskmanager.cpu.cores": 1,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "64m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.task.off-heap.size": "64m",
        "taskmanager.memory.managed.size": "128m",
        # A graph such as ImageFilter's has some hundred shuffles; by default, each blocking one
        # takes 512 buffers of 32 kB on each slot.
        "taskmanager.network.sort-shuffle.min-buffers": 64,
        "taskmanager.memory.network.min": "192m",
        "taskmanager.memory.network.max": "192m",
    }
    java = ["java", HEAP, *OPEN, "-cp", f"{libraries}/*"]
    entry = "org.apache.flink.runtime"

    def config(name: str) -> tuple[str | Path, ...]:
        return "--configDir", folder / name

    try:
        _configure(folder / "master", base)
        processes.start(
            "jobmanager",
            master,
            [*java, f"{entry}.entrypoint.StandaloneSessionClusterEntrypoint", *config("master")],
        )
        processes.await_port("jobmanager", master.address, rest)
        for number, host in enumerate(workers):
            name = f"taskmanager-{number}"
            bound = {"taskmanager.host": host.address, "taskmanager.bind-host": host.address}
            _configure(folder / name, {**base, **bound})
            command = [*java, f"{entry}.taskexecutor.TaskManagerRunner", *config(name)]
            processes.start(name, host, command)
        url = f"http://{master.address}:{rest}"
        processes.await_true("jobmanager", lambda: _task_managers(url) == len(workers))
        arguments = [f"--flink-master={master.address}:{rest}", *_ports(master, job, folder)]
        processes.start("job-server", master, ["java", HEAP, *OPEN, "-jar", jar, *arguments])
        processes.await_port("job-server", master.address, job)
        yield Cluster(f"{master.address}:{job}", processes, url)
    finally:
        processes.stop()


def _task_managers(url: str) -> int:
    """Return the number of TaskManagers that Flink's REST API lists; 0 while it starts."""
    try:
        return len(_get(f"{url}/taskmanagers")["taskmanagers"])
    except OSError:  # Flink is not up yet, or too busy to answer
        return 0


def _get(url: str) -> dict[str, Any]:
    """Return the JSON object at a URL of Flink's REST API."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return dict(json.load(answer))


def _configure(folder: Path, values: dict[str, object]) -> None:
    """Write a configuration file of Flink."""
    folder.mkdir(parents=True)
    lines = [f"{key}: {value}\n" for key, value in values.items()]
    (folder / "flink-conf.yaml").write_text("".join(lines))


def _ports(master: Host, job: int, folder: Path) -> list[str]:
    """Return the flags that the job servers for Flink and Spark have in common."""
    return [
        f"--job-host={master.address}",
        f"--job-port={job}",
        f"--artifact-port={free_port()}",
        f"--expansion-port={free_port()}",
        f"--artifacts-dir={folder / 'staged'}",
    ]


@contextlib.contextmanager
def job_service(folder: Path) -> Iterator[Cluster]:
    """Run Beam's Python job service, which executes the graph itself and needs no Java."""
    port = free_port()
    processes = Processes(folder)
    module = "apache_beam.runners.portability.local_job_service_main"
    try:
        processes.start("job-service", Host(), [sys.executable, "-m", module, f"--port={port}"])
        processes.await_port("job-service", "127.0.0.1", port)
        yield Cluster(f"127.0.0.1:{port}", processes)
    finally:
        processes.stop()


@contextlib.contextmanager
def spark(
    folder: Path, master: Host = Host(), workers: Sequence[Host] = (Host(), Host()), cores: int = 1
) -> Iterator[Cluster]:
    """Run a standalone Spark cluster until the block ends.

    It has a master, one worker on each host of `workers`, and Beam's job server.
    """
    home, jar = require("python/pyspark", "spark/spark-job-server.jar")
    port, job = free_port(), free_port()
    processes = Processes(folder)
    java = ["java", HEAP, *OPEN]
    libraries = ["-cp", f"{home}/jars/*"]
    environment = {
        "SPARK_HOME": str(home),
        "SPARK_SCALA_VERSION": "2.12",  # Spark's start scripts read it from the names of the jars
        "SPARK_LOCAL_IP": master.address,
    }
    url = f"spark://{master.address}:{port}"
    deploy = "org.apache.spark.deploy"
    try:
        web = ["--webui-port", str(free_port())]
        processes.start(
            "master",
            master,
            [
                *(*java, *libraries, f"{deploy}.master.Master"),
                *("--host", master.address, "--port", str(port), *web),
            ],
            **environment,
        )
        processes.await_port("master", master.address, port)
        for number, host in enumerate(workers):
            place = ["--host", host.address, "--work-dir", str(folder / f"work-{number}")]
            size = ["--cores", str(cores), "--memory", "1g", "--webui-port", str(free_port())]
            processes.start(
                f"worker-{number}",
                host,
                [*java, *libraries, f"{deploy}.worker.Worker", *place, *size, url],
                **{**environment, "SPARK_LOCAL_IP": host.address},
            )
        options = {
            "spark.driver.host": master.address,
            "spark.driver.bindAddress": master.address,
            "spark.executor.memory": "768m",
            "spark.executor.extraJavaOptions": " ".join(OPEN),
            "spark.ui.enabled": "false",
        }
        processes.start(
            "job-server",
            master,
            [
                *java,
                *[f"-D{key}={value}" for key, value in options.items()],
                *("-cp", f"{jar}:{home}/jars/*"),
                "org.apache.beam.runners.spark.SparkJobServerDriver",
                *(f"--spark-master-url={url}", *_ports(master, job, folder)),
            ],
            **environment,
        )
        processes.await_port("job-server", master.address, job)
        yield Cluster(f"{master.address}:{job}", processes)
    finally:
        processes.stop()
