"""Two hosts on one machine: network namespaces with an address each and the same file system."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.engines.clusters import Host

_BRIDGE = "imgpipe-br"
_NETWORK = "10.213.7"


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, list[Host]]]:
    """Create two hosts behind a bridge; this machine is the master, with an address on it.

    Everything is removed when the block ends.

    Yields:
        The master and the hosts. A host has a loopback interface of its own, so it reaches the
        others only by their addresses.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip (package iproute2)")
    names = [f"imgpipe-host-{number}" for number in range(2)]
    try:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("address", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        hosts = [_host(name, number) for number, name in enumerate(names)]
        yield Host(f"{_NETWORK}.1"), hosts
    finally:
        for name in names:  # this removes their virtual Ethernet devices too
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", _BRIDGE], check=False, capture_output=True)


def _host(name: str, number: int) -> Host:
    """Create a network namespace that is connected to the bridge."""
    address, outside, inside = (
        f"{_NETWORK}.{number + 2}",
        f"imgpipe-{number}",
        f"imgpipe-in-{number}",
    )
    _ip("netns", "add", name)
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
    _ip("link", "set", outside, "master", _BRIDGE, "up")
    _ip("link", "set", inside, "netns", name)
    _ip("-n", name, "address", "add", f"{address}/24", "dev", inside)
    _ip("-n", name, "link", "set", inside, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    return Host(address, ("ip", "netns", "exec", name))


def _ip(*arguments: str) -> None:
    """Run the program `ip`, or skip the test if it fails."""
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"ip {' '.join(arguments)} is not permitted here: {done.stderr.strip()}")
