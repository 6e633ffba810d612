"""Soaks a server of its own in mixed traffic, and checks what it must never lose.

    python tests/soak/runner.py --minutes 10 --loop uvloop

Clients come in rounds: some do anything at all, valid, invalid or abrupt; some count what they get back; over TCP and
TLS, under every policy for slow readers, with broadcasts from a thread. After each round everybody has gone, and then:
on_connect and on_close have run equally often; no connection, task or descriptor is left; memory has settled. The log
must be empty but for what is expected. With PYTHONMALLOC=debug in the environment the server checks its memory, too.

Exit status 0 if all of that holds, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soak.peers import Honest, Peer, Target, Visitor, Wrong
from soak.served import AsWished, serve
from support.client import request

AT_ONCE = 60
"""Clients that are connected at the same time."""

ROUND = 400
"""Clients after which everything is counted."""

HONEST, VISITORS = 0.1, 0.02
"""Of the clients, those that count, and those that only read pages."""

PATIENCE = 60.0
"""Seconds for the server to see the end of the last client of a round."""

WARM_UP = 0.25
"""Of all rounds: until then memory may grow."""

GROWTH = 8 << 20
"""Bytes that it may grow by from then on; less is the allocator's noise."""


class Sample(NamedTuple):
    """What the server has when everybody has gone."""

    seconds: float
    clients: int
    memory: int
    descriptors: int


# ---- Rounds ----------------------------------------------------------------------------------------------------------


async def get_counts(target: Target) -> dict[str, Any]:
    """What the server says of itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.plain)
    writer.write(request("/counts", {"Host": "test", "Connection": "close"}))
    answer = await reader.read()
    writer.close()
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


async def settled(target: Target) -> dict[str, Any]:
    """The server's counts once it has seen the end of every client."""
    async with asyncio.timeout(PATIENCE):
        while True:
            counts = await get_counts(target)
            idle = counts["open"] == counts["tasks"] == len(counts["alive"]) == 0
            if idle and counts["connects"] == counts["closes"]:
                return counts
            await asyncio.sleep(0.05)


async def throw(target: Target, first: int, count: int, own: Counter[str]) -> None:
    """So many clients, some at once.

    Raises:
        Wrong: One did not get what it was owed.
    """
    seeds = iter(range(first, first + count))
    failed: list[Wrong] = []

    async def one_after_the_other() -> None:
        for seed in seeds:
            kind = seed * 0.618034 % 1  # spread evenly, and the same in each run
            try:
                if kind < HONEST:
                    await Honest(target, seed, own).run()
                elif kind < HONEST + VISITORS:
                    await Visitor(target, seed, own).run()
                else:
                    await Peer(target, seed).run()
            except Wrong as error:
                failed.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())
    if failed:
        raise failed[0]


async def soak(target: Target, seconds: float, clients: int, seed: int) -> tuple[str | None, list[Sample]]:
    """Rounds of clients until the time is over, or their number; what is wrong, or None."""
    begun, thrown = time.monotonic(), 0
    own = Counter({"sent": 0, "received": 0, "pages": 0, "late": 0})
    samples: list[Sample] = []
    while thrown < clients and (not samples or time.monotonic() < begun + seconds):
        size = min(ROUND, clients - thrown)
        try:
            await throw(target, seed + thrown, size, own)
            thrown += size
            counts = await settled(target)
        except TimeoutError:
            return f"after {thrown} clients: {await get_counts(target)}", samples
        except Wrong as error:
            return f"after {thrown} clients: {error}", samples
        sample = Sample(time.monotonic() - begun, thrown, counts["memory"], counts["descriptors"])
        samples.append(sample)
        told = ", ".join(f"{counts[name]:,} {name}" for name in ("connects", "closes", "errors", "received", "sent"))
        mine = ", ".join(f"{count:,} {name}" for name, count in own.items())
        print(
            f"{sample.seconds:6.0f} s, {thrown:,} clients: {told}; honest ones: {mine};"
            f" {sample.memory >> 10:,} KiB, {sample.descriptors} descriptors",
            flush=True,
        )
        if counts["twice"]:
            return "on_close ran for a connection that was closed, or had never opened", samples
        if own["sent"] != own["received"]:
            return f"honest clients sent {own['sent']} messages and received {own['received']}", samples
    return leak(samples), samples


# ---- The verdict -----------------------------------------------------------------------------------------------------


def slope(samples: Sequence[Sample]) -> float:
    """Bytes of memory that each client costs for ever, by least squares."""
    return linear_regression([each.clients for each in samples], [each.memory for each in samples]).slope


def leak(samples: Sequence[Sample]) -> str | None:
    """What grows from round to round, once the server is warm; None if nothing does."""
    warm = samples[int(len(samples) * WARM_UP) :]
    if len(warm) < 8:
        return None
    # Of single samples, one may have caught a descriptor that is about to be closed.
    quarter = len(warm) // 4
    if min(each.descriptors for each in warm[-quarter:]) > max(each.descriptors for each in warm[:quarter]):
        return f"descriptors grow: {[each.descriptors for each in warm]}"
    grown = slope(warm) * (warm[-1].clients - warm[0].clients)
    if grown > GROWTH and min(each.memory for each in warm[-quarter:]) > max(each.memory for each in warm[:quarter]):
        return f"memory grows by {slope(warm):,.0f} bytes a client: {[each.memory >> 10 for each in warm]} KiB"
    return None


def report(samples: Sequence[Sample]) -> None:
    """Memory and descriptors over time, in at most ten lines."""
    for sample in samples[:: max(1, len(samples) // 10)]:
        print(f"{sample.seconds:8.0f} s {sample.memory >> 10:>9,} KiB {sample.descriptors:>5} descriptors")
    warm = samples[int(len(samples) * WARM_UP) :]
    if len(warm) > 1:
        print(f"once warm, memory changes by {slope(warm):+,.1f} bytes a client")


def unexpected(log: str, direct: bool) -> list[str]:
    """Lines of the server's log that nothing explains.

    Args:
        direct: It has crest's own transports, and not the loop's.
    """
    # The third is of a machine that has other things to do.
    known = ["was cancelled, 2 s after the connection ended", "did not close within", "blocked the loop for"]
    if not direct:
        known.append("asyncio:socket.send() raised exception")  # of the loop's transports, which are told late
    return [line for line in log.splitlines() if line and not any(each in line for each in known)]


# ---- Processes -------------------------------------------------------------------------------------------------------


def run_server(loop: str, direct: bool) -> None:
    output = logging.StreamHandler()
    output.addFilter(lambda record: record.exc_info is None or not isinstance(record.exc_info[1], AsWished))
    logging.basicConfig(level=logging.WARNING, handlers=[output])
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve(direct))
    else:
        asyncio.run(serve(direct))


def run_clients(options: argparse.Namespace) -> str | None:
    """Start the server, soak it and end it; what is wrong, or None."""
    command = [sys.executable, "-X", "faulthandler", *sys.argv, "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        log: list[str] = []
        reading = threading.Thread(target=log.extend, args=(server.stderr,))
        reading.start()
        samples: list[Sample] = []
        try:
            target = Target(*map(int, server.stdout.readline().split()))
            wrong, samples = asyncio.run(soak(target, options.minutes * 60, options.clients, options.seed))
        except (OSError, TypeError, ValueError) as error:
            wrong = f"the server does not answer: {error!r}"
        finally:
            server.stdin.close()  # it ends then, and so does what reads its log
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            wrong = wrong or "the server does not stop"
            server.kill()
        reading.join()
    report(samples)
    lines = unexpected("".join(log), not options.transport)
    for line in lines[:2000]:
        print(line)
    if server.returncode != 0:
        wrong = wrong or f"the server ended with {server.returncode}"
    if lines:
        wrong = wrong or f"{len(lines)} lines of log that nothing explains"
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=1 << 60, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop")
    parser.add_argument("--transport", action="store_true", help="write through the loop's transports")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_server(options.loop, not options.transport)
        return 0
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # clients send what is reset meanwhile, and it warns of that
    wrong = run_clients(options)
    print(f"FAILED: {wrong}" if wrong else "nothing went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
