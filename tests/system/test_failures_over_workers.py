"""What is promised when something fails while all workers publish: what was sent, what came, and what was lost.

Every message comes once, and in its publisher's order. What does not come is counted by the worker that missed it.
"""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.certificates import Pair
from support.crowd import Crowd, Session
from support.workers import Workers, is_gone, running, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")

WORKERS = 3
EACH = 2
SOURCE = f"""
import asyncio, os
from crest import App, WebSocketServer

app, ws = App(shutdown_timeout=30), WebSocketServer(max_backlog=1 << 30, ping_interval=None)
process, sent, publishing = os.getpid(), 0, None

async def publish():
    global sent
    while True:
        for _ in range(5):
            sent += 1
            ws.broadcast(f"{{process}}:{{sent}}")
        await asyncio.sleep(0.001)

def go():
    global publishing
    publishing = asyncio.create_task(publish())

def end():
    if publishing is not None:
        publishing.cancel()
        ws.broadcast(f"end {{process}}:{{sent}}")

@ws.on_message
async def received(conn, message):
    if message == "who":
        conn.send(f"at {{process}}:0")
    elif message == "large":
        for _ in range(8):
            ws.broadcast_binary(bytes(1 << 20))
    else:
        {{"go": go, "end": end}}[message]()

def say(words):
    os.write(1, f"{{words}}\\n".encode())  # whole, whatever other workers write

@ws.on_gap
async def lost(gap):
    say(f"gap {{process}} {{gap.lost}} {{gap.cause}}")

@app.on_start
def start():
    say("started")

if "ALWAYS" in os.environ:
    app.on_start(go)
    app.on_stop(end)
app.run(port=0, workers={WORKERS}, **eval(os.environ.get("OPTIONS", "{{}}")))
"""


class Scene:
    """Workers that publish, and clients of each."""

    def __init__(self, program: Workers, crowd: Crowd) -> None:
        self.program = program
        self.crowd = crowd
        while len(crowd.processes()) < WORKERS or any(len(crowd.at(each)) < EACH for each in crowd.processes()):
            crowd.join()
        self.first = list(crowd.sessions)

    def tell(self, message: str) -> None:
        """Tell it to each worker."""
        for each in self.crowd.processes():
            self.crowd.at(each)[0].say(message)

    def go(self) -> None:
        """Have all workers publish, until each client has got much of each."""
        self.tell("go")
        self.advance(self.crowd.processes())

    def advance(self, publishers: list[int], count: int = 1000) -> None:
        """Wait until each client has got so many more from each of these."""
        last = {(each, publisher): each.last(publisher) for each in self.crowd.sessions for publisher in publishers}
        self.crowd.until(
            lambda: all(
                each.last(publisher) > last.get((each, publisher), 0) + count
                for each in self.crowd.sessions
                for publisher in publishers
            )
        )

    def end(self) -> dict[int, int]:
        """Have all workers stop; what each has sent, once all clients know that this was all."""
        processes = self.crowd.processes()
        self.tell("end")
        self.crowd.until(lambda: all(set(processes) <= set(each.ends) for each in self.crowd.sessions))
        ends = self.crowd.sessions[0].ends
        return {each: ends[each] for each in processes}

    def missing(self, session: Session, sent: dict[int, int]) -> int:
        """How many have not come. What its own worker has published came in any case."""
        assert session.is_in_order()
        own = session.process
        assert len(session.heard[own]) == sent[own]
        frames = max(each.others for each in self.first)
        return sum(sent[each] - len(session.heard.get(each, [])) for each in sent) + frames - session.others

    def told(self, process: int) -> int:
        """How many a worker has said to be missing."""
        lines = [line.split() for line in self.program.lines if line.startswith(f"gap {process} ")]
        return sum(int(line[2]) for line in lines)

    def causes(self) -> set[str]:
        return {line.split()[3] for line in self.program.lines if line.startswith("gap ")}

    def account(self, sent: dict[int, int]) -> int:
        """Wait until each worker has told of all that its clients miss, and no more; returns how many that are."""
        missing = {each.process: self.missing(each, sent) for each in self.first if each.code is None}
        assert all(self.missing(each, sent) == missing[each.process] for each in self.first if each.code is None)
        while any(self.told(each) < missing[each] for each in missing):
            self.program.until("^gap ")
        self.program.signal(signal.SIGTERM)
        self.crowd.until(lambda: not self.crowd.sessions)
        assert self.program.end()[0] == 0
        assert {each: self.told(each) for each in missing} == missing
        return sum(missing.values())


@contextmanager
def scene() -> Iterator[Scene]:
    with running(SOURCE) as program:
        program.until(f"{WORKERS} workers serve", *["^started"] * WORKERS)
        with Crowd(program.port) as crowd:
            made = Scene(program, crowd)
            made.go()
            yield made


def test_a_worker_is_killed() -> None:
    """Others miss nothing; of what it has published they have all up to some message."""
    with scene() as made:
        victim, *others = made.crowd.processes()
        gone = made.crowd.at(victim)
        os.kill(victim, signal.SIGKILL)
        made.crowd.until(lambda: all(each.code is not None for each in gone))
        made.program.until(rf"\(process {victim}\) has ended: SIGKILL", r"^started")
        made.advance(others)
        while len(made.crowd.processes()) < WORKERS:
            made.crowd.join()
        (new,) = set(made.crowd.processes()) - {*others}
        made.crowd.at(new)[0].say("go")
        made.advance([*others, new])
        sent = made.end()
        for each in made.crowd.sessions:
            assert each.is_whole()
        del sent[new]
        assert made.account(sent) == 0


def test_the_exchange_is_killed() -> None:
    """Each worker goes on for its own clients, and tells how many of others' messages were lost."""
    with scene() as made:
        processes, sessions, exchange = made.crowd.processes(), made.crowd.sessions, made.program.exchange()
        os.kill(exchange, signal.SIGSTOP)
        last = {each: each.last(each.process) for each in sessions}
        made.crowd.until(lambda: all(each.last(each.process) > last[each] + 500 for each in sessions))
        os.kill(exchange, signal.SIGKILL)
        made.advance(processes)
        sent = made.end()
        assert made.causes() <= {"exchange"}
        assert made.account(sent) > 0


def test_the_supervisor_is_killed() -> None:
    """The workers close their connections: what has come is whole up to then. No process is left, and no port."""
    with scene() as made:
        processes = made.crowd.processes()
        exchange = made.program.exchange()
        made.program.signal(signal.SIGKILL)
        made.crowd.until(lambda: not made.crowd.sessions)
        assert {each.code for each in made.crowd.ended} == {1012}
        assert all(each.is_whole() and set(each.heard) == set(processes) for each in made.crowd.ended)
        wait_for(lambda: all(map(is_gone, [*processes, exchange])))


def test_a_worker_stops_reading() -> None:
    """None of the others waits; what it misses was counted, and came to the others."""
    with scene() as made:
        victim, one, _ = made.crowd.processes()
        os.kill(victim, signal.SIGSTOP)
        others = [each for each in made.crowd.sessions if each.process != victim]
        for _ in range(9):  # a little more than may wait for it
            expected = others[0].others + 8
            made.crowd.at(one)[0].say("large")
            made.crowd.until(lambda expected=expected: all(each.others == expected for each in others))
        made.program.until(r"Worker \d+ does not keep up: \d+ messages for it were dropped")
        os.kill(victim, signal.SIGCONT)
        made.advance(made.crowd.processes())
        sent = made.end()
        assert made.causes() <= {"slow"}
        assert made.account(sent) > 0


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_rolling_restart(secure: bool, pair: Pair) -> None:
    """Each connection has all that was published while it was open, and workers close theirs one after the other."""
    options = {"certfile": str(pair.certfile), "keyfile": str(pair.keyfile)} if secure else {}
    with running(SOURCE, ALWAYS="1", OPTIONS=repr(options)) as program:
        program.until(f"{WORKERS} workers serve")
        with Crowd(program.port, pair.client() if secure else None, comes_back=True) as crowd:
            made = Scene(program, crowd)
            old = crowd.processes()
            made.advance(old)
            program.signal(signal.SIGUSR2)
            crowd.until(lambda: not {each.process for each in crowd.sessions} & {0, *old})
            program.until(f"{WORKERS} workers were replaced")
            made.advance(crowd.processes())
            assert {each.code for each in crowd.ended} == {1012}
            order = [each.process for each in crowd.ended]
            assert [each for each, before in zip(order, [0, *order], strict=False) if each != before] == list(
                dict.fromkeys(order)
            ), "one worker after the other"
            assert all(each.is_whole() for each in [*crowd.ended, *crowd.sessions])
            for process in old:
                ends = [each for each in [*crowd.ended, *crowd.sessions] if process in each.ends]
                heard = [each for each in ends if process in each.heard]  # others have come after its last number
                assert heard, "its last message, when its own clients are gone"
                assert all(each.last(process) == each.ends[process] for each in heard)
            crowd.comes_back = False
            program.signal(signal.SIGTERM)
            crowd.until(lambda: not crowd.sessions)
            _, written = program.end()
            assert not re.search("^gap ", written, re.MULTILINE)
