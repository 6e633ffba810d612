"""What a broadcast costs from one worker to another through the exchange: rate, CPU of all three processes, latency.

`workers.py`. Two workers and an exchange are processes, connected as the supervisor connects them. Messages are 64
bytes of text, through `WebSocketServer.broadcast`.

**rate**: one worker broadcasts as fast as it can, on a server that has no clients; the other one publishes what comes.
**stream**: one worker broadcasts one message, or 16, in each turn, and its turns follow each other: a send(2) for so
many messages. The same without a relay is subtracted. Little sleeps, so this is what the bus adds to busy processes.
**half load**: one worker broadcasts 750,000 messages a second for a second, and each says when; the client of the other
one takes the time of each 16th as it reads it.
**back and forth**: one worker broadcasts so many messages in a turn. The other one has a client, a socket pair
without TCP, which answers each message by a broadcast. So messages go back and forth, and nothing else happens. The
same is done within one process, without the exchange. What it takes longer, and more CPU for, is the bus: `bus_cpu_us`
for a message, `added_us` for one way. CPU is the time on the processor of all three, as /proc/PID/schedstat has it.

**socketio_redis**: messages a second and CPU of publisher, reader and redis-server for each, of python-socketio's Redis
manager. **together**: what two workers serve beside one. The load generator shares the processors, and takes
`load_cores` of them.

The ratio is to one delivery of `limit` in broadcast-1 and broadcast-16 of compare.py, in the same hour:
`--limit 3.6 0.23` with these figures.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from beside import aggregate, socketio
from paths import Bench

from crest import WebSocketServer
from crest.cluster.bus import Bus
from crest.io.loop.poller import Poller

TEXT = "abcdefgh" * 8
FRAME = len(TEXT) + 2
BATCH = 200
AHEAD = 1 << 18  # bytes that may wait for the exchange before the publisher lets its loop go on


class Worker:
    """One worker: it broadcasts on `out`, and its one client hears what the other worker broadcasts there."""

    def __init__(self, number: int, fd: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.bench = Bench(ping_interval=None)
        self.turn = self.bench.turn
        self.turn.poller = Poller(self.loop)
        self.out, self.alone = WebSocketServer(), WebSocketServer()
        for each in (self.out, self.alone):
            each._hub.open(self.turn)
        self.bus = Bus(self.turn, number, on_gap=print, queue=1 << 28)
        mine, other = ("/1", "/2") if number == 1 else ("/2", "/1")
        self.bus.attach(mine, self.out._hub)
        self.bus.attach(other, self.bench.ws._hub)
        self.bus.attach("/alone", self.alone._hub)
        _, self.transport = self.bench.connect()
        self.transport.peer.setblocking(False)
        self.bus.connect(fd)
        self.heard: asyncio.Future[None] | None = None
        self.awaited = 0
        self.answers = self.out
        self.options: dict[str, bool] = {}
        self.left = 0
        self.times: list[float] = []

    def hear(self) -> None:
        """Take what the client has got: worker 1 goes on when all is there."""
        self.awaited -= len(self.transport.peer.recv(1 << 18)) // FRAME
        if self.awaited <= 0 and self.heard is not None:
            self.times.append(time.perf_counter())
            self.left -= 1
            if self.left > 0:
                self.say(self.depth)
            else:
                self.heard.set_result(None)
                self.heard = None

    def say(self, depth: int) -> None:
        self.depth = self.awaited = depth
        for _ in range(depth):
            self.answers.broadcast(TEXT, **self.options)

    def answer(self) -> None:
        """Answer each message, in worker 2."""
        for _ in range(len(self.transport.peer.recv(1 << 18)) // FRAME):
            self.out.broadcast(TEXT)

    async def rounds(self, count: int, depth: int, local: bool) -> dict[str, Any]:
        """Have messages go back and forth so many times, or from this process to its own client."""
        self.answers, self.options = (self.bench.ws, {"local": True}) if local else (self.out, {})
        self.left, self.times = count, [time.perf_counter()]
        self.heard = self.loop.create_future()
        self.say(depth)
        await self.heard
        steps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return {"messages": count * depth, "p50": statistics.median(steps) * 1e6, "seconds": sum(steps)}

    async def stream(self, count: int, depth: int, local: bool) -> dict[str, Any]:
        """Broadcast so many messages in each turn."""
        for _ in range(count // depth):
            for _ in range(depth):
                self.alone.broadcast(TEXT, local=local)
            await asyncio.sleep(0)
            while self.bus.waiting > AHEAD:
                await asyncio.sleep(0)
        if not local:
            await self.rounds(1, 1, False)
        return {"messages": count}

    async def paced(self, rate: int, seconds: float) -> dict[str, Any]:
        """Broadcast so many messages a second, each with its time."""
        start, said = time.monotonic_ns(), 0
        while (now := time.monotonic_ns()) < start + seconds * 1e9:
            due = int((now - start) * rate / 1e9) - said
            text = f"{now:064d}"
            for _ in range(due):
                self.out.broadcast(text)
            said += due
            await asyncio.sleep(0)
        while self.bus.waiting:
            await asyncio.sleep(0)
        return {"messages": said}

    def listen(self) -> None:
        """Note how late each 16th message is, in worker 2."""
        data = self.rest + self.transport.peer.recv(1 << 18)
        now, whole = time.monotonic_ns(), len(data) - len(data) % FRAME
        self.late += [now - int(data[at + 2 : at + FRAME]) for at in range(0, whole, 16 * FRAME)]
        self.rest = data[whole:]

    async def lateness(self, begin: bool) -> dict[str, Any]:
        """Begin to listen, or tell what was heard."""
        if begin:
            self.late, self.rest = [], b""
            self.loop.add_reader(self.transport.peer, self.listen)
            return {"messages": 1}
        self.loop.add_reader(self.transport.peer, self.answer)
        late = sorted(self.late)
        return {"messages": 1, "p50": late[len(late) // 2] / 1e3, "p99": late[len(late) * 99 // 100] / 1e3}

    async def rate(self, count: int) -> dict[str, Any]:
        start = time.perf_counter()
        for _ in range(count // BATCH):
            while self.bus.waiting > AHEAD:
                await asyncio.sleep(0)
            for _ in range(BATCH):
                self.alone.broadcast(TEXT)
        published = time.perf_counter() - start
        await self.rounds(1, 1, False)
        seconds = time.perf_counter() - start
        return {"messages": count, "seconds": seconds, "published": published}


async def work(number: int, fd: int) -> None:
    worker = Worker(number, fd)
    worker.loop.add_reader(worker.transport.peer, worker.hear if number == 1 else worker.answer)
    reader = asyncio.StreamReader()
    await worker.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, *numbers = json.loads(line)
        print(json.dumps(await getattr(worker, name)(*numbers)), flush=True)


class Processes:
    """The exchange and two workers."""

    def __init__(self) -> None:
        control, other = socket.socketpair()
        pairs = [socket.socketpair() for _ in range(2)]
        for number, (end, _) in enumerate(pairs, 1):
            end.setblocking(False)
            socket.send_fds(control, [json.dumps({"link": number}).encode() + b"\n"], [end.fileno()])
        self.control = control
        exchange = subprocess.Popen(
            [sys.executable, "-P", "-m", "crest.cluster.exchange", str(other.fileno())], pass_fds=[other.fileno()]
        )
        self.workers = []
        for number, (_, end) in enumerate(pairs, 1):
            end.setblocking(False)
            command = [sys.executable, __file__, "--worker", str(number), str(end.fileno())]
            pipe = subprocess.PIPE
            self.workers.append(subprocess.Popen(command, pass_fds=[end.fileno()], stdin=pipe, stdout=pipe, text=True))
        self.all = [exchange, *self.workers]

    def spent(self) -> list[float]:
        """Seconds that each process has had of a processor."""
        return [int(Path(f"/proc/{each.pid}/schedstat").read_text().split()[0]) / 1e9 for each in self.all]

    def measure(self, *order: object, worker: int = 1) -> dict[str, Any]:
        """Have a worker do something; what it says, and the CPU of each process in us a message."""
        before = self.spent()
        first = self.workers[worker - 1]
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(json.dumps(order) + "\n")
        first.stdin.flush()
        found: dict[str, Any] = json.loads(first.stdout.readline())
        found["cpu"] = [
            (after - start) * 1e6 / found["messages"] for start, after in zip(before, self.spent(), strict=True)
        ]
        return found

    def close(self) -> None:
        for each in self.workers:
            each.kill()
        self.control.close()
        for each in self.all:
            each.wait()


def report(processes: Processes, limit: list[float] | None, scale: float) -> dict[str, Any]:
    processes.measure("rounds", 200, 16, False)
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    rate = processes.measure("rate", int(2_000_000 * scale))
    found["messages_per_second"] = round(rate["messages"] / rate["seconds"])
    found["rate_cpu_us"] = [round(each, 3) for each in rate["cpu"]]
    processes.measure("lateness", True, worker=2)
    processes.measure("paced", 750_000, max(0.1, scale))
    late = processes.measure("lateness", False, worker=2)
    found["half_load"] = {"p50_us": round(late["p50"]), "p99_us": round(late["p99"])}
    for depth in (1, 16):
        count = int(200_000 * scale) * depth
        away = processes.measure("stream", count, depth, False)
        here = processes.measure("stream", count, depth, True)
        cpu = sum(away["cpu"]) - sum(here["cpu"])
        found[f"stream_{depth}"] = {
            "bus_cpu_us": round(cpu, 3),
            "each_cpu_us": [round(a - b, 3) for a, b in zip(away["cpu"], here["cpu"], strict=True)],
        }
        if limit:
            found[f"stream_{depth}"]["ratio"] = round(cpu / limit[depth > 1], 2)
        count = int(20_000 * scale)
        away = processes.measure("rounds", count, depth, False)
        here = processes.measure("rounds", count, depth, True)
        # There and back: two messages of each, and two clients that hear them.
        cpu = (sum(away["cpu"]) - 2 * sum(here["cpu"])) / 2
        found[f"back_and_forth_{depth}"] = {
            "bus_cpu_us": round(cpu, 3),
            "each_cpu_us": [round(each / 2, 3) for each in away["cpu"]],
            "here_cpu_us": round(sum(here["cpu"]), 3),
            "added_us": round((away["p50"] - 2 * here["p50"]) / 2, 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--limit", nargs=2, type=float, help="us of a delivery of limit: broadcast-1, broadcast-16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="fewer messages, to see that it works")
    parser.add_argument("--beside", action="store_true", help="python-socketio, and two workers beside one, too")
    arguments = parser.parse_args()
    if arguments.worker:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(*arguments.worker))
        return
    for _ in range(arguments.rounds):
        processes = Processes()
        try:
            print(json.dumps(report(processes, arguments.limit, arguments.scale)), flush=True)
        finally:
            processes.close()
    if arguments.beside:
        subprocess.run(["make", "--silent", "-C", Path(__file__).parent / "load"], check=True)
        print(json.dumps({"socketio_redis": socketio()}), flush=True)
        print(json.dumps({"together": aggregate(3 * arguments.scale)}), flush=True)


if __name__ == "__main__":
    main()
