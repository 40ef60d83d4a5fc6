"""A container on this machine, which has a root of its own in a mount namespace.

The root shows the machine's folders, except for its own ``/tmp``, ``/run``, launcher and artifact
folders, and the claims that the pod mounts.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kubeflow import container

#: Folders that the compiled workflow mounts empty into each pod.
_SCRATCH = ("gcs", "s3", "minio", ".local", ".cache", ".config")
_OWN = ("tmp/outputs", "run", "kfp-launcher", *_SCRATCH)
_SECONDS = 1200  # a task of a small set takes one minute on a machine with nothing else to do
#: Path at which the workflow's first container puts the launcher.
PROGRAM = "/kfp-launcher/launch"

#: A shell script. Its arguments are the new root, the pod's folder, pairs of a claim's folder and
#: its mount path, "--", and the command.
_SCRIPT = """
set -e
root=$1 pod=$2
shift 2
mount -t tmpfs none "$root"
for path in /*; do
  name=${path#/}
  [ -e "$pod/$name" ] && continue
  if [ -L "$path" ]; then cp -P "$path" "$root/$name"
  elif [ -d "$path" ]; then mkdir "$root/$name"; mount --rbind "$path" "$root/$name"
  fi
done
for path in "$pod"/* "$pod"/.[a-z]*; do
  name=${path##*/}
  mkdir "$root/$name"
  mount --rbind "$path" "$root/$name"
done
while [ "$1" != -- ]; do
  mkdir -p "$root$2"
  mount --rbind "$1" "$root$2"
  shift 2
done
shift
exec chroot "$root" "$@"
"""


def possible() -> bool:
    """Return whether this machine allows a process to have mounts of its own."""
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
    )
    return ended.returncode == 0


def isolated(own: Path, root: Path, mounts: dict[Path, str], command: list[str]) -> list[str]:
    """Return the words that run a command in a root and a mount namespace of its own.

    Args:
        own: Folder whose sub-folders the command sees instead of the machine's folders.
        root: Empty folder that becomes the root.
        mounts: Folders of this machine, and the paths at which the command sees them.
        command: The program and its arguments.
    """
    pairs = [word for source, path in mounts.items() for word in (str(source), path)]
    return [
        *("unshare", "--map-root-user", "--mount", "sh", "-c", _SCRIPT, "pod"),
        *(str(root), str(own), *pairs, "--", *command),
    ]


@dataclass(frozen=True)
class Pod:
    """One container.

    Attributes:
        folder: Folder below which the container's own files are.
        account: Folder with token, certificate and namespace of the service account.
        program: Program that the container sees as `PROGRAM`: the driver or the launcher.
    """

    folder: Path
    account: Path
    program: Path

    def run(
        self, command: list[str], environment: dict[str, str], mounts: dict[Path, str]
    ) -> tuple[int, str]:
        """Run a command until it ends.

        Args:
            command: The program and its arguments.
            environment: Variables besides those for the search path, the home folder and
                the choice of kernels.
            mounts: Folders of this machine, and the paths at which the container sees them.

        Returns:
            The exit code, and standard output and standard error together.
        """
        own, root = self.folder / "own", self.folder / "root"
        root.mkdir(parents=True)
        for name in _OWN:
            (own / name).mkdir(parents=True)
        shutil.copytree(self.account, own / "run/secrets/kubernetes.io/serviceaccount")
        shutil.copy2(self.program, own / PROGRAM.lstrip("/"))
        ended = subprocess.run(
            isolated(own, root, mounts, command),
            env=container.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
        return ended.returncode, ended.stdout

    def file(self, path: str) -> Path:
        """Return the path on this machine of a file that the container wrote."""
        return self.folder / "own" / path.lstrip("/")
