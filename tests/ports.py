"""Finds free ports of this machine, and asks whether something listens on one."""

import socket


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free when this function looked for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Return whether a process listens on a TCP port."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
