"""crest.cluster.directory: who is in which room, over all workers; and messages to one connection of another one."""

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bus import worker
from support.client import GUARD
from support.workers import Workers, wait_for, workers
from websockets.sync.client import ClientConnection, connect

from crest import Presence
from crest.cluster import directory, telling
from crest.cluster.directory import ABSENCE, LONG_ABSENCE, PAUSE, Directory
from crest.cluster.record import RecordKind, pack
from crest.connection import id_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")

SOURCE = """
import json
from crest.cluster import telling

telling.PART = 50

@ws.on_binary
async def called(conn, data):
    name, *words = json.loads(data)
    if name == "who":
        answer = [os.getpid(), conn.get_id()]
    elif name == "join":
        answer = conn.join(*words)
    elif name == "leave":
        answer = conn.leave(*words)
    elif name == "user":
        conn.user, answer = words[0], None
    elif name == "count":
        answer = await ws.count(to=words or None)
    elif name == "count-user":
        answer = await ws.count(to=ws.user(words[0]))
    elif name == "members":
        answer = sorted(map(list, await ws.members(*words)))
    elif name == "send":
        answer = ws.send_to(*words)
    elif name == "send-binary":
        answer = ws.send_binary_to(words[0], words[1].encode())
    elif name == "block":
        say("blocked")
        while not os.path.exists(words[0]):
            time.sleep(0.01)
        answer = None
    conn.send(json.dumps({"answer": answer}))

app.run(port=0, workers=3)
"""


class Client:
    """A client, and where it is."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[str | bytes] = []
        self.process, self.id = self.ask("who")

    def tell(self, *words: object) -> None:
        self.connection.send(json.dumps(words).encode())

    def answer(self) -> Any:
        """The next answer; what comes before it is kept in `messages`."""
        while True:
            message = self.connection.recv(timeout=GUARD)
            if isinstance(message, str) and message.startswith('{"answer"'):
                return json.loads(message)["answer"]
            self.messages.append(message)

    def ask(self, *words: object) -> Any:
        self.tell(*words)
        return self.answer()

    def until(self, wanted: object, *words: object) -> None:
        """Ask until this is the answer: news of other workers is on its way."""
        wait_for(lambda: bool(self.ask(*words) == wanted))


@contextmanager
def clients(program: Workers) -> Iterator[list[Client]]:
    """Six clients, in turns at each of the workers."""
    with ExitStack() as stack:
        url = f"ws://127.0.0.1:{program.port}/ws"
        at: dict[int, list[Client]] = {}
        while len(at) < 3 or min(map(len, at.values())) < 2:
            client = Client(stack.enter_context(connect(url, open_timeout=GUARD)))
            at.setdefault(client.process, []).append(client)
        for group in at.values():
            while len(group) > 2:
                group.pop().connection.close()
        six = [group[turn] for turn in range(2) for group in at.values()]
        for each in six:
            each.until(6, "count")
        yield six


@pytest.fixture
def program() -> Iterator[Workers]:
    with workers(SOURCE) as started:
        started.serve(3)
        yield started


@pytest.fixture
def six(program: Workers) -> Iterator[list[Client]]:
    with clients(program) as found:
        yield found


def test_connections_are_counted_over_all_workers(program: Workers, six: list[Client]) -> None:
    for each in six:
        assert each.ask("count") == 6
    six[0].connection.close()
    six[1].until(5, "count")


def test_members_of_a_room(six: list[Client]) -> None:
    one, two, three, four, *_ = six
    for each in (one, two, four):
        assert each.ask("join", "lobby")
    everyone = sorted([each.id, None] for each in (one, two, four))
    for each in six:
        each.until(everyone, "members", "lobby")
        assert each.ask("count", "lobby") == 3
        assert each.ask("members", "attic") == [] and each.ask("count", "attic") == 0
    two.ask("leave", "lobby")
    four.connection.close()
    three.ask("join", "lobby")
    for each in (one, two, three):
        each.until(sorted([other.id, None] for other in (one, three)), "members", "lobby")


def test_who_is_in_several_rooms_counts_once(six: list[Client]) -> None:
    for each in six:
        each.ask("join", "lobby")
    for each in six[:4]:
        each.ask("join", "attic")
    for each in six:
        each.until(6, "count", "lobby", "attic")
        each.until(4, "count", "attic", "cellar")


def test_users(six: list[Client]) -> None:
    one, two, three, four, *_ = six
    for each, name in ((one, "alice"), (two, "alice"), (three, "böb"), (four, None)):
        each.ask("user", name)
        each.ask("join", "lobby")
    wanted = sorted([each.id, name] for each, name in ((one, "alice"), (two, "alice"), (three, "böb"), (four, None)))
    for each in six:
        each.until(wanted, "members", "lobby")
        each.until(2, "count-user", "alice")
        each.until(1, "count-user", "böb")
        assert each.ask("count", "alice") == 0, "which is a room"
    two.ask("user", "carol")
    for each in six:
        each.until(1, "count-user", "alice")
        each.until(1, "count-user", "carol")


def test_many_members(six: list[Client]) -> None:
    """More than one text tells of, while they come and go."""
    one, two, *_ = six
    for number in range(300):
        for each in six:
            each.tell("join", f"room {number}")
    for each in six:
        for _ in range(300):
            assert each.answer()
    for each in six:
        each.until(6, "count", *(f"room {number}" for number in range(300)))
        each.until(6, "count", "room 299")
    for number in range(299):
        one.tell("leave", f"room {number}")
        two.tell("join", "last")
    for each in (one, two):
        for _ in range(299):
            each.answer()
    for each in six:
        each.until(5, "count", "room 7")
        each.until(6, "count", "room 299")
        each.until(1, "count", "last")


def test_a_worker_that_is_killed_takes_its_members_with_it(program: Workers, six: list[Client]) -> None:
    one, two, *_ = six
    for each in six:
        each.ask("join", "lobby")
    for each in six:
        each.until(6, "count", "lobby")
    os.kill(two.process, signal.SIGKILL)
    left = [each for each in six if each.process != two.process]
    for each in left:
        each.until(4, "count", "lobby")
        each.until(4, "count")
        assert sorted(each.ask("members", "lobby")) == sorted([other.id, None] for other in left)
    program.until("3 workers|^started")
    with ExitStack() as stack:
        new = one
        while new.process in {each.process for each in left}:
            url = f"ws://127.0.0.1:{program.port}/ws"
            new = Client(stack.enter_context(connect(url, open_timeout=GUARD)))
        new.ask("join", "lobby")
        for each in [*left, new]:
            each.until(5, "count", "lobby")


def test_an_exchange_that_is_killed_loses_no_members(program: Workers, six: list[Client]) -> None:
    one, two, three, *_ = six
    one.ask("join", "lobby")
    for each in six:
        each.until(1, "count", "lobby")
    os.kill(program.exchange(), signal.SIGKILL)
    program.until("The exchange has ended")
    two.ask("join", "lobby")
    one.ask("leave", "lobby")
    three.ask("join", "lobby")
    for each in six:
        each.until(sorted([other.id, None] for other in (two, three)), "members", "lobby")


def test_members_of_a_worker_that_has_not_come_back_yet_are_believed_in_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with worker() as made:
        peer = made.connect_peer()
        others = Directory(made.bus, made.stage.loop).attach("/", made.stage.hub, made.served)
        process = "00000000000000ab"

        def members() -> list[Presence]:
            return asyncio.run(others.members(("lobby",)))

        assert members() == []
        peer.sock.send(pack(RecordKind.START, struct.pack("=QQQ", int(process, 16), 0, 0), origin=2))
        texts: list[dict[str, Any]] = [{"first": True}, {"rooms": [["lobby", False, [7]]]}, {"rooms": []}]
        for count, text in enumerate(texts):
            said = json.dumps({"count": count, "process": process, **text}).encode()
            peer.sock.send(pack(RecordKind.OPAQUE, said, origin=2, to=("members of /",)))
        made.stage.end_turn(2)
        there = [Presence(id_of(process, 7), None)]
        assert members() == there
        peer = made.connect_peer()
        made.stage.loop.advance(PAUSE)
        assert members() == there
        for _ in range(3):  # while no worker has come back it may be the exchange that does not start
            made.stage.loop.advance(ABSENCE)
            assert members() == there
        peer.sock.send(pack(RecordKind.START, struct.pack("=QQQ", 0xAC, 0, 0), origin=3))
        made.stage.end_turn(2)
        monkeypatch.setattr(directory, "PATIENCE", 0)  # for what worker 3 would tell
        assert members() == there
        made.stage.loop.advance(ABSENCE)
        assert members() == []


def test_it_is_told_that_a_worker_wants_to_know_still_and_what_is_missing_is_asked_for() -> None:
    with worker() as made:
        peer = made.connect_peer()
        others = Directory(made.bus, made.stage.loop).attach("/", made.stage.hub, made.served)

        def heard() -> list[Any]:
            made.stage.end_turn(3)
            return [json.loads(each.payload) for each in peer.records() if each.kind == RecordKind.OPAQUE]

        def tell(to: str, **text: Any) -> None:
            peer.sock.send(pack(RecordKind.OPAQUE, json.dumps(text).encode(), origin=2, to=(to,)))

        asyncio.run(others.members(("lobby",)))
        assert heard() == [{"want": "/"}]
        made.stage.loop.advance(telling.KEEP)
        assert heard() == [{"keep": "/"}]
        for count in (0, 2):
            tell("members of /", count=count, process="00000000000000ab", first=True, rooms=[])
            tell("members of /", count=count + 7, process="00000000000000ab", changes=[])
        assert heard() == []
        made.stage.loop.advance(PAUSE)
        assert heard() == [{"want": "/"}], "once, soon"
        tell("workers", keep="/")
        assert [text.get("rooms", text.get("first")) for text in heard()] == [True, []]
        while made.stage.loop.timers:
            made.stage.loop.advance(telling.LEASE)
        assert made.stage.loop.timers == []
        peer.sock.close()


def test_members_of_workers_of_which_none_comes_back_are_forgotten_at_last() -> None:
    with worker() as made:
        peer = made.connect_peer()
        others = Directory(made.bus, made.stage.loop).attach("/", made.stage.hub, made.served)
        asyncio.run(others.members(("lobby",)))
        peer.sock.send(pack(RecordKind.START, struct.pack("=QQQ", 0xAB, 0, 0), origin=2))
        for count, text in enumerate(({"first": True}, {"rooms": [["lobby", False, [7]]]}, {"rooms": []})):
            said = json.dumps({"count": count, "process": "00000000000000ab", **text}).encode()
            peer.sock.send(pack(RecordKind.OPAQUE, said, origin=2, to=("members of /",)))
        made.stage.end_turn(2)
        peer = made.connect_peer()
        made.stage.loop.advance(PAUSE)
        end = made.stage.loop.time() + LONG_ABSENCE - 2 * ABSENCE
        while made.stage.loop.time() < end:
            assert asyncio.run(others.count(("lobby",))) == 1
            made.stage.loop.advance(ABSENCE)
        for _ in range(3):
            made.stage.loop.advance(ABSENCE)
        assert asyncio.run(others.count(("lobby",))) == 0


def test_a_worker_that_is_busy_is_waited_for_at_first_and_never_again(
    program: Workers, six: list[Client], tmp_path: Path
) -> None:
    one, two, *_ = six
    two.ask("join", "lobby")
    two.tell("block", str(tmp_path / "go"))
    program.until("^blocked")
    assert one.ask("count", "lobby") == 0
    assert one.ask("count", "lobby") == 0
    assert one.ask("count") == 6, "this needs no answer of others"
    (tmp_path / "go").touch()
    two.answer()
    one.until(1, "count", "lobby")


def test_a_message_to_one_connection_of_another_worker(six: list[Client]) -> None:
    one, two, three, *_ = six
    assert one.ask("send", two.id, "hello ä") is True
    assert one.ask("send-binary", two.id, "bytes") is True
    assert one.ask("send", one.id, "to myself") is True
    assert one.messages == ["to myself"]
    assert two.connection.recv(timeout=GUARD) == "hello ä" and two.connection.recv(timeout=GUARD) == b"bytes"
    for wrong in ("", "x", f"{two.id}0", f"{'0' * 16}-1", one.id[:17] + "fffff", two.id + "-"):
        sent = one.ask("send", wrong, "nobody")
        assert sent is (wrong == f"{two.id}0"), "the worker is there, and may have such a connection"
    two.connection.close()
    three.ask("send", six[4].id, "last")
    assert three.ask("who")[1] == three.id
