"""What rooms cost beside messages: bytes of a membership, and the time of joining and leaving, by shape.

`memberships.py`. Connections have no network: they share a socket pair, as those of paths.py. Names are made before,
and each connection joins its rooms in one go. The memberships are left in the same order, then again in random order,
where the caches do not help, or end with their connections.
A time is CPU of one call in a Python loop, the loop included; `end` is what connections take longer to end than without
rooms. `resident` is what the process grew by, `traced` what tracemalloc has, in a process of its own because tracing
slows everything. `left` is what tracemalloc still has for each connection, once all memberships are left.
"""

import argparse
import asyncio
import gc
import json
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paths import Bench, Transport

SEED = 1


@dataclass(frozen=True)
class Shape:
    """So many connections, each in so many of the rooms."""

    connections: int
    rooms: int
    each: int

    def __str__(self) -> str:
        size = self.connections * self.each // self.rooms
        rooms = "its one room" if self.each == 1 else f"{self.each:,} rooms"
        return f"{self.connections:,} connections, each in {rooms}; {self.rooms:,} rooms of {size:,}"

    @property
    def memberships(self) -> int:
        return self.connections * self.each


SHAPES = [
    Shape(1_000, 1_000, 1_000),
    Shape(10_000, 100_000, 100),
    Shape(100_000, 100_000, 10),
    Shape(200_000, 20_000, 1),
    Shape(200_000, 1, 1),
    Shape(200_000, 200_000, 1),
]


class Crowd:
    """Connections, and the calls that put them into rooms."""

    def __init__(self, shape: Shape) -> None:
        self.bench, self.transport = Bench(ping_interval=None), Transport()
        self.opened: list[Any] = []
        self.bench.ws.on_connect(self.opened.append)
        self.protocols = [self.bench.connect(self.transport)[0] for _ in range(shape.connections)]
        names = [f"room {number}" for number in range(shape.rooms)]
        step = shape.rooms // shape.each
        self.pairs = [
            (conn, names[(index + turn * step) % shape.rooms])
            for index, conn in enumerate(self.opened)
            for turn in range(shape.each)
        ]
        self.shuffled = self.pairs.copy()
        random.Random(SEED).shuffle(self.shuffled)

    def join(self) -> None:
        for conn, name in self.pairs:
            conn.join(name)

    def leave(self) -> None:
        for conn, name in self.pairs:
            conn.leave(name)

    def leave_at_random(self) -> None:
        for conn, name in self.shuffled:
            conn.leave(name)

    def lose(self) -> None:
        for protocol in self.protocols:
            protocol.connection_lost(None)

    def check(self, members: int, rooms: int) -> None:
        """Fail unless rooms are as they should be: a call that does nothing is no figure."""
        ws = self.bench.ws
        names = ws.room_names()
        found = sum(ws.room_size(name) for name in names)
        if (found, len(names)) != (members, rooms):
            raise SystemExit(f"memberships: {found:,} in {len(names):,} rooms, not {members:,} in {rooms:,}")


def resident() -> int:
    """Bytes of this process in memory, in pages that are counted one by one."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024


def timed(call: Callable[[], None], count: int) -> float:
    """Nanoseconds of CPU that one of `count` calls takes."""
    began = time.process_time_ns()
    call()
    return (time.process_time_ns() - began) / count


async def time_and_reside(shape: Shape) -> dict[str, float]:
    crowd, count = Crowd(shape), shape.memberships
    gc.collect()
    gc.freeze()
    before = resident()
    figures = {"join": timed(crowd.join, count)}
    figures["resident"] = (resident() - before) / count
    crowd.check(count, shape.rooms)
    figures["leave"] = timed(crowd.leave, count)
    crowd.check(0, 0)
    crowd.join()
    figures["at random"] = timed(crowd.leave_at_random, count)
    crowd.check(0, 0)
    without = timed(Crowd(shape).lose, count)
    crowd.join()
    figures["end"] = timed(crowd.lose, count) - without
    crowd.check(0, 0)
    return figures


async def trace(shape: Shape) -> dict[str, float]:
    crowd, count = Crowd(shape), shape.memberships
    gc.collect()
    tracemalloc.start()
    crowd.join()
    traced = tracemalloc.get_traced_memory()[0]
    crowd.leave_at_random()
    left = tracemalloc.get_traced_memory()[0]
    return {"traced": traced / count, "left": left / shape.connections}


def measured(index: int, how: str) -> dict[str, float]:
    """Run one shape in a process of its own."""
    command = [sys.executable, __file__, "--shape", str(index), "--how", how]
    figures: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--how", choices=["time", "trace"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shape is not None:
        run = trace if options.how == "trace" else time_and_reside
        print(json.dumps(asyncio.run(run(SHAPES[options.shape]))))
        return
    print("| shape | join, ns | leave, ns | at random, ns | end, ns | resident, B | traced, B | left a connection, B |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for index, shape in enumerate(SHAPES):
        figures = measured(index, "time") | measured(index, "trace")
        keys = ("join", "leave", "at random", "end", "resident", "traced", "left")
        print(f"| {shape} | {' | '.join(f'{figures[key]:,.0f}' for key in keys)} |", flush=True)


if __name__ == "__main__":
    main()
