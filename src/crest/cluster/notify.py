"""What systemd is told about this process, see sd_notify(3). Without systemd, nothing."""

from __future__ import annotations

import os
import socket
import time

from crest.log import logger


def notify(*states: str) -> None:
    """Tell the service manager states such as "READY=1". No-op if there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # of the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto("\n".join(states).encode(), address)
    except OSError as error:
        logger.warning("The service manager could not be told %s: %s", ", ".join(states), error.strerror)


def reloading() -> tuple[str, str]:
    """Return the states of a reload that begins now."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_interval() -> float | None:
    """Return the seconds between two signs of life that the service manager wants; None: it wants none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None
