"""The process of a task: a fork that has TFX loaded and runs the module of the container's command.

Loading TFX takes longer than most tasks on a small set. The fork server of `multiprocessing` loads
it once. Each task is still a process of its own, with its own user, environment and working folder.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

#: Modules that `imgpipe.pipeline.kubeflow.entry_point` and the components import while they run.
_LOADED = (
    "imgpipe.pipeline.definition.graph",
    "imgpipe.components.report.report",
    "imgpipe.pipeline.execution.failures",
    "tensorflow.keras",
    "tensorflow_data_validation",
    "tensorflow_model_analysis",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
)
_SECONDS = 600

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(_LOADED))


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a container.

    Rounding depends on the kernels of OpenBLAS and on oneDNN, and a container needs those of this
    process to end with the same weights.
    """
    from tensorflow.python.framework import test_util

    kernels = {key: value for key, value in os.environ.items() if key.startswith("OPENBLAS_")}
    kernels["TF_ENABLE_ONEDNN_OPTS"] = str(int(test_util.IsMklEnabled()))
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/", "TF_CPP_MIN_LOG_LEVEL": "2", **kernels, **more}


def run(
    words: list[str], folder: Path, variables: dict[str, str], log: Path, user: int | None
) -> int:
    """Run the module of a command in a fork of the fork server.

    Args:
        words: The command and its arguments; it begins with `python -m MODULE`.
        folder: Working folder.
        variables: All environment variables.
        log: File that receives standard output and standard error.
        user: Id of the process's user and group; None for those of the tests.

    Returns:
        The exit code.
    """
    process = _forks.Process(target=_run_module, args=(words, folder, variables, log, user))
    process.start()
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a task has not ended after {_SECONDS} s; see {log}")
    return process.exitcode


def _run_module(
    words: list[str], folder: Path, variables: dict[str, str], log: Path, user: int | None
) -> None:
    """Turn this process, which is the fork, into the container's process."""
    assert words[:2] == ["python", "-m"], words[:3]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = words[2:]
    runpy.run_module(words[2], run_name="__main__", alter_sys=True)
