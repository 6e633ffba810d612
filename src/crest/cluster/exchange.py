"""The exchange: the process that relays broadcasts between the workers of one machine. It runs no code of a user's.

`python -m crest.cluster.exchange FD`: FD is a Unix stream socket to the supervisor. Over it come lines of JSON, each
with one descriptor: `{"link": 3, "queue": 67108864}` and a stream socket to the worker with the number 3, for which so
many bytes may wait. The end of that socket ends the process.

Lines that have come are carried out before anything of a worker is read. So an exchange that takes the place of another
one loses nothing between two workers, if their lines were sent before it was started. Start it with `-P`: else Python
would look for modules where the user's are.
"""

import asyncio
import json
import logging
import signal
import socket
import sys

from crest.cluster.switch import Switch
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn

QUEUE = 64 << 20
"""Bytes that may wait for a worker, unless its line says something else."""

MOST_AT_ONCE = 64
"""Descriptors that come with one call of the kernel's."""

logger = logging.getLogger("crest")


class Control:
    """The supervisor's end of it all: what has come over its socket, and is no whole line yet."""

    def __init__(self, control: socket.socket, switch: Switch, ended: asyncio.Event) -> None:
        self.control = control
        self.switch = switch
        self.ended = ended
        self.rest = b""
        self.fds: list[int] = []

    def receive(self) -> None:
        """Carry out all lines that have come."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, MOST_AT_ONCE)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            self.fds += fds
            if not data:
                self.ended.set()
                return
            self.obey_all(data)

    def obey_all(self, data: bytes) -> None:
        """Carry out the lines that end in these bytes."""
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


async def serve(control: socket.socket) -> None:
    """Relay until the supervisor closes its socket."""
    loop = asyncio.get_running_loop()
    turn = Turn(loop)
    turn.poller = Poller(loop)
    ended = asyncio.Event()
    control.setblocking(False)
    loop.add_reader(control, Control(control, Switch(turn), ended).receive)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(control)
        turn.poller.close()
        turn.clock.stop()


def main(fd: int) -> None:
    """Be the exchange. A terminal sends SIGINT to all processes of its group, and the supervisor alone decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(levelname)s exchange: %(message)s", stream=sys.stderr)
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with socket.socket(fileno=fd) as control, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(control))


if __name__ == "__main__":
    main(int(sys.argv[1]))
