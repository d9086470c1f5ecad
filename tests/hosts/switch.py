"""A network switch as a process: hosts in network namespaces, each with an address, which can be cut off or far away.

    python -m tests.hosts.switch 10.77.0.1 10.77.0.2=mien-redis ...      (as root; without a namespace: this host)

Every namespace gets a tap device, whose frames this process passes on.  tc netem would do the same between veth pairs,
where the kernel has it; a switch of our own needs /dev/net/tun alone, can lose and delay, and counts.

Commands come on stdin, a line of JSON each: {"host": ADDRESS, "cut": bool, "delay_s": seconds each way, "loss": share
of the frames}.  Each is answered with a line: the bytes that each host has sent and received.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import json
import os
import random
import selectors
import struct
import subprocess
import sys
import time
from dataclasses import dataclass

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES = 65_536
DEVICE = "mien0"


@dataclass
class Port:
    """A host's way into the switch."""

    tap: int
    cut: bool = False
    delay_s: float = 0.0
    loss: float = 0.0
    sent: int = 0
    received: int = 0


def main() -> None:
    """Pass frames on until stdin closes."""
    ports = {address: Port(_tap(address, name)) for address, _, name in (a.partition("=") for a in sys.argv[1:])}
    known: dict[bytes, Port] = {}  # by MAC address
    late: list[tuple[float, int, Port, bytes]] = []
    order = itertools.count()
    selector = selectors.DefaultSelector()
    for port in ports.values():
        selector.register(port.tap, selectors.EVENT_READ, port)
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
    print("ready", flush=True)
    commands = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    while True:
        wait_s = max(late[0][0] - time.monotonic(), 0) if late else None
        for key, _ in selector.select(wait_s):
            source: Port | None = key.data
            if source is None:
                line = commands.readline()
                if not line:
                    return
                _obey(json.loads(line), ports)
                continue
            while frame := _read(source.tap):
                source.sent += len(frame)
                known[frame[6:12]] = source
                target = known.get(frame[:6])
                for port in [target] if target else [other for other in ports.values() if other is not source]:
                    if source.cut or port.cut or random.random() < source.loss + port.loss:
                        continue
                    due = time.monotonic() + source.delay_s + port.delay_s
                    heapq.heappush(late, (due, next(order), port, frame))
        while late and late[0][0] <= time.monotonic():
            _, _, port, frame = heapq.heappop(late)
            port.received += len(frame)
            os.write(port.tap, frame)


def _obey(command: dict[str, object], ports: dict[str, Port]) -> None:
    if command:  # an empty one only asks
        port = ports[str(command.pop("host"))]
        for name, value in command.items():
            setattr(port, name, value)
    print(json.dumps({address: [port.sent, port.received] for address, port in ports.items()}), flush=True)


def _read(tap: int) -> bytes:
    try:
        return os.read(tap, FRAME_BYTES)
    except BlockingIOError:
        return b""


def _tap(address: str, namespace: str) -> int:
    """The device of a host, up and with its address; a descriptor stays where its device is, whoever reads it."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if namespace:
        _enter(libc, os.open(f"/run/netns/{namespace}", os.O_RDONLY))
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TAP | IFF_NO_PI))
    _enter(libc, home)
    where = ["ip", "-n", namespace] if namespace else ["ip"]
    for command in (["addr", "add", f"{address}/24", "dev", DEVICE], ["link", "set", DEVICE, "up"]):
        subprocess.run([*where, *command], check=True)
    if namespace:
        subprocess.run([*where, "link", "set", "lo", "up"], check=True)
    return tap


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    main()
