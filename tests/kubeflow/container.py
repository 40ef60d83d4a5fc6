"""The process of a task: the command of its container, or a fork that has TFX loaded.

Loading TFX takes longer than most tasks on a small set. The fork server of `multiprocessing` loads
it once. Each task is still a process of its own, with its own user, environment and working folder.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

#: Modules that `imgpipe.pipeline.kubeflow.entry_point` and the components import while they run.
_LOADED = (
    "imgpipe.pipeline.graph",
    "imgpipe.components.report.component",
    "imgpipe.pipeline.execution.failures",
    "tensorflow.keras",
    "tensorflow_data_validation",
    "tensorflow_model_analysis",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
)
_PYTHON_MODULE = ["python", "-m"]
_SECONDS = 600

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(_LOADED))


def arithmetic() -> dict[str, str]:
    """Return the environment variables that choose the kernels of OpenBLAS.

    Rounding depends on the kernels. A container needs those of a local run to end with the same
    weights.
    """
    return {key: value for key, value in os.environ.items() if key.startswith("OPENBLAS_")}


@dataclass(frozen=True)
class Container:
    """The command, folder, environment and user of a task's process.

    Attributes:
        words: The command and its arguments.
        folder: Working folder.
        environment: All environment variables.
        log: File that receives standard output and standard error.
        user: Id of the process's user and group; None for those of the tests.
    """

    words: list[str]
    folder: Path
    environment: dict[str, str]
    log: Path
    user: int | None

    def run(self) -> int:
        """Run the command itself until it ends, and return its exit code."""
        as_user = {"user": self.user, "group": self.user, "extra_groups": []}
        with self.log.open("w") as log:
            return subprocess.run(
                self.words,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                **({} if self.user is None else as_user),
            ).returncode

    def fork(self) -> int:
        """Run the module of the command in a fork of the fork server, and return its exit code."""
        process = _forks.Process(target=self._run_module)
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"a task has not ended after {_SECONDS} s; see {self.log}")
        return process.exitcode

    def _run_module(self) -> None:
        """Turn this process, which is the fork, into the container's process."""
        assert self.words[:2] == _PYTHON_MODULE, self.words[:3]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if self.user is not None:
            os.setgroups([])
            os.setgid(self.user)
            os.setuid(self.user)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.argv = self.words[2:]
        runpy.run_module(self.words[2], run_name="__main__", alter_sys=True)
