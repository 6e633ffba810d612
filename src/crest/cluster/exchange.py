"""The exchange: the process that relays broadcasts between the workers of one machine. It runs no code of a user's.

`python -P -m crest.cluster.exchange FD`: FD is a Unix stream socket to the supervisor. Over it come lines of JSON, each
with one descriptor: `{"link": 3, "queue": 67108864}` and a stream socket to the worker with the number 3, for which so
many bytes may wait. The end of that socket ends the process. Without `-P` Python would look for modules where the
user's are.

Lines that have come are carried out before anything of a worker is read. So an exchange that takes the place of another
one loses nothing between two workers, if their lines were sent before it was started.
"""

import json
import logging
import signal
import socket
import sys
from typing import Any

from crest.cluster.minimal import Loop
from crest.cluster.switch import Control, Switch
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn

QUEUE = 64 << 20
"""Bytes that may wait for a worker, unless its line says something else."""

MOST_AT_ONCE = 64
"""Descriptors that come with one call of the kernel's."""

logger = logging.getLogger("crest")


class Orders:
    """What the supervisor says over its socket."""

    def __init__(self, control: socket.socket, switch: Switch) -> None:
        self.control = control
        self.switch = switch
        self.ended = False
        self.rest = b""  # what has come, and is no whole line yet
        self.fds: list[int] = []

    def receive(self) -> None:
        """Carry out all lines that have come."""
        while not self.ended:
            try:
                data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, MOST_AT_ONCE)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            self.fds += fds
            self.ended = not data
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                try:
                    self.obey(line)
                except (ValueError, TypeError, KeyError, OSError) as error:
                    logger.error("The supervisor's line %r could not be carried out: %s", line, error)

    def obey(self, line: bytes) -> None:
        """Connect a worker."""
        if not self.fds:
            raise ValueError("no descriptor came with it")
        link = socket.socket(fileno=self.fds.pop(0))
        try:
            order = json.loads(line)
            link.setblocking(False)
            self.switch.add(link.fileno(), int(order["link"]), int(order.get("queue", QUEUE)))
        except BaseException:
            link.close()
            raise
        link.detach()


def serve(control: socket.socket) -> None:
    """Relay until the supervisor closes its socket."""
    loop: Any = Loop()
    turn = Turn(loop)
    turn.poller = poller = Poller(loop)
    control.setblocking(False)
    orders = Orders(control, Switch(turn))
    orders.receive()
    door = Control(poller, control.fileno(), orders.receive)
    while not orders.ended:
        try:
            loop.turn(poller)
        except Exception:
            logger.exception("The exchange goes on after a failure")
    door.fd = -1
    poller.close()


def main(fd: int) -> None:
    """Be the exchange. A terminal sends SIGINT to all processes of its group, and the supervisor alone decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(levelname)s exchange: %(message)s", stream=sys.stderr)
    with socket.socket(fileno=fd) as control:
        serve(control)


if __name__ == "__main__":
    main(int(sys.argv[1]))
