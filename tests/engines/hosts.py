"""Two hosts on one machine: network namespaces with an address each and the same file system."""

import contextlib
import subprocess
from collections.abc import Iterator

from tests.engines.clusters import Host

_BRIDGE = "imgpipe-br"
_NETWORK = "10.213.7"


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, list[Host]]]:
    """Create two hosts behind a bridge; this machine is the master, with an address on it.

    Everything is removed when the block ends. Without root or the program `ip` (iproute2), both
    hosts are this machine.

    Yields:
        The master and the hosts. A host has a loopback interface of its own, so it reaches the
        others only by their addresses.
    """
    names = [f"imgpipe-host-{number}" for number in range(2)]
    try:
        try:
            _ip("link", "add", _BRIDGE, "type", "bridge")
            _ip("address", "add", f"{_NETWORK}.1/24", "dev", _BRIDGE)
            _ip("link", "set", _BRIDGE, "up")
            master, hosts = Host(f"{_NETWORK}.1"), [_host(*one) for one in enumerate(names)]
        except (OSError, subprocess.CalledProcessError):
            master, hosts = Host(), [Host(), Host()]
        yield master, hosts
    finally:
        # This removes their virtual Ethernet devices too.
        for words in (*(("netns", name) for name in names), ("link", _BRIDGE)):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip(words[0], "delete", words[1])


def _host(number: int, name: str) -> Host:
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
    """Run the program `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
