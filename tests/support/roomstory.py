"""Random events on connections that join and leave rooms, told beside a model in plain Python: sets and lists."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from crest.wire.extensions import Deflate
from support.client import TEXT, Frame
from support.compressing import agreement
from support.link import SMALL_KERNEL, Link, Scene, text
from support.story import Story, brief

DEFLATE = Deflate(threshold=0)
AGREEMENTS = (
    agreement(DEFLATE),
    agreement(DEFLATE, server_no_context_takeover=None),
    agreement(DEFLATE, server_max_window_bits="10"),
)


class RoomStory(Story):
    """Random events, above all in rooms.

    Args:
        crowd: Connections at the beginning, most of which are in the largest room.
        compressing: Some connections have agreed on compression.
        fast: All connections read well; else some have a kernel that takes little.
    """

    def __init__(
        self, stage: Scene, seed: int, *, crowd: int = 8, compressing: bool = False, fast: bool = False
    ) -> None:
        self.compressing, self.fast = compressing, fast
        self.rooms: dict[str, set[Link]] = {name: set() for name in ("hall", "a", "b", "c")}
        self.later: list[Callable[[], None]] = []
        super().__init__(stage, seed)
        for _ in range(crowd):
            self.join()
        for link in self.links:
            if self.random.random() < 0.9:
                self.enter(link, "hall")

    def join(self, _: object = None) -> None:
        agreed = self.random.choice([None, *AGREEMENTS]) if self.compressing else None
        small = not self.fast and self.random.random() < 0.4
        self.add(
            self.stage.link(send_buffer=SMALL_KERNEL if small else None, room=3000 if small else None, agreed=agreed)
        )

    def payload(self) -> bytes:
        self.serial += 1
        size = self.random.choice(
            [0, 3, 20, 100, 130, 8190, 9000, 66_000] if self.random.random() < 0.1 else [0, 3, 20]
        )
        return b"%d:" % self.serial + bytes([97 + self.serial % 26]) * size

    # ---- The model ---------------------------------------------------------------------------------------------------

    def enter(self, link: Link, room: str) -> None:
        if link.connection.is_open():
            self.rooms[room].add(link)
        assert link.connection.join(room) is link.connection.is_open()

    def exit(self, link: Link, room: str) -> None:
        if link.connection.is_open():
            self.rooms[room].discard(link)
        link.connection.leave(room)

    def audience(self, rooms: tuple[str, ...] | None, excluded: list[Link]) -> list[Link]:
        """The connections that get a message, in any order."""
        members = self.open() if rooms is None else {link for room in rooms for link in self.rooms[room]}
        return [link for link in members if link.connection.is_open() and link not in excluded]

    # ---- Steps -------------------------------------------------------------------------------------------------------

    def enter_any(self, link: Link) -> None:
        self.enter(link, self.random.choice(list(self.rooms)))

    def exit_any(self, link: Link) -> None:
        self.exit(link, self.random.choice(list(self.rooms)))

    def publish(self, link: Link) -> None:
        data = self.payload()
        rooms, excluded = self.addressed(link)
        for each in self.audience(rooms, excluded):
            self.accepted[each].append(Frame(TEXT, data))
        self.call(data, rooms, excluded)

    def addressed(self, link: Link) -> tuple[tuple[str, ...] | None, list[Link]]:
        """Rooms and connections that are excluded."""
        names = list(self.rooms)
        rooms: tuple[str, ...] | None = tuple(self.random.choices(names, k=self.random.choice([1, 1, 1, 1, 2, 3])))
        if self.random.random() < 0.1:
            rooms = None
        excluded = []
        if self.random.random() < 0.4:
            excluded = [link, *self.random.sample(self.links, self.random.choice([0, 0, 0, min(3, len(self.links))]))]
        return rooms, excluded

    def call(self, data: bytes, rooms: tuple[str, ...] | None, excluded: list[Link]) -> None:
        to = rooms[0] if rooms is not None and len(rooms) == 1 else rooms
        connections = [each.connection for each in excluded]
        exclude = connections[0] if len(connections) == 1 else connections
        self.stage.hub.broadcast(data.decode(), to=to, exclude=exclude or None)

    def flood(self, link: Link) -> None:
        for _ in range(self.random.randint(1, 40)):
            self.random.choice([self.send, self.publish, self.publish])(link)

    def threaded(self, link: Link) -> None:
        """Another thread does several things, which the loop carries out in its next turn, in that order."""
        room = self.random.choice(list(self.rooms))
        steps: list[tuple[Callable[[], object], Callable[[], None]]] = []
        for _ in range(self.random.randint(1, 4)):
            kind = self.random.randrange(3)
            if kind == 0:
                steps.append((lambda: link.connection.join(room), lambda: self.rooms[room].add(link)))
            elif kind == 1:
                steps.append((lambda: link.connection.leave(room), lambda: self.rooms[room].discard(link)))
            else:
                data = self.payload()
                steps.append((partial(self.call, data, (room,), []), partial(self.note, data, room)))

        def work() -> None:
            for call, _ in steps:
                call()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.later += [note for _, note in steps]
        self.end_turn(link)

    def note(self, data: bytes, room: str) -> None:
        for each in self.audience((room,), []):
            self.accepted[each].append(Frame(TEXT, data))

    def end_turn(self, link: Link) -> None:
        for note in self.later:
            note()
        self.later.clear()
        self.stage.end_turn()

    def answer(self, conn: object, message: str) -> None:
        link = conn.link  # type: ignore[attr-defined]
        for _ in range(self.random.randint(0, 3)):
            self.random.choice([self.send, self.publish, self.enter_any, self.exit_any])(link)
        if message == "close":
            self.close(link)

    def receive(self, link: Link) -> None:
        link.receive(text("close" if self.random.random() < 0.02 else "hello"))

    def odds(self) -> dict[Callable[[Link], None], float]:
        often = {self.send: 5, self.publish: 20, self.broadcast: 3, self.flood: 1, self.receive: 3, self.threaded: 0.5}
        return often | {
            self.enter_any: 4,
            self.exit_any: 2,
            self.read: 8,
            self.end_turn: 6,
            self.join: 0.3,
            self.close: 0.2,
        }

    # ---- The end -----------------------------------------------------------------------------------------------------

    def got(self, link: Link) -> list[Frame]:
        return link.messages() if link.agreed is not None else link.frames()

    def assert_rooms(self) -> None:
        """Rooms have the members of the model, and no others."""
        hub = self.stage.hub
        for name, members in self.rooms.items():
            assert hub.room_size(name) == sum(link.connection.is_open() for link in members)
        assert set(hub.room_names()) == {name for name in self.rooms if hub.room_size(name)}
        for link in self.open():
            assert link.connection.rooms == {name for name, members in self.rooms.items() if link in members}

    def assert_complete(self) -> None:
        self.assert_rooms()
        for link in self.links:
            frames = self.got(link)
            assert brief(frames) == brief(self.accepted[link])
            assert [(each.opcode, each.payload) for each in frames] == [
                (each.opcode, each.payload) for each in self.accepted[link]
            ]
            assert link.connection.dropped == self.refused[link] == 0
            assert link.connection.buffered == 0

    def assert_partly(self) -> None:
        """Each peer got what it was to get in order and once, and as many fewer messages as were dropped."""
        self.assert_rooms()
        for link in self.links:
            frames, wanted = brief(self.got(link)), brief(self.accepted[link])
            at = iter(wanted)
            assert all(each in at for each in frames), (frames, wanted)
            assert len(wanted) - len(frames) == link.connection.dropped - self.refused[link]


class KeyedRoomStory(RoomStory):
    """Messages of which only the newest of each key counts, in rooms, for all, and for one connection."""

    def __init__(self, stage: Scene, seed: int, **options: Any) -> None:
        self.keyed: dict[Link, dict[bytes, tuple[object, object]]] = defaultdict(dict)
        super().__init__(stage, seed, **options)

    def send(self, link: Link) -> None:
        data, key = self.payload(), self.random.choice([None, None, 1, "x"])
        if link.connection.send(data.decode(), key=key):
            self.accepted[link].append(Frame(TEXT, data))
            if key is not None:
                self.keyed[link][data] = ("own", key)

    def publish(self, link: Link) -> None:
        data, key = self.payload(), self.random.choice([None, 1, "x", ("y", 2)])
        rooms, excluded = self.addressed(link)
        excluded = [] if rooms is None else excluded
        for each in self.audience(rooms, excluded):
            self.accepted[each].append(Frame(TEXT, data))
            if key is not None:
                place = "all" if rooms is None else next(room for room in rooms if each in self.rooms[room])
                self.keyed[each][data] = (place, key)
        exclude = [each.connection for each in excluded]
        self.stage.hub.broadcast(data.decode(), to=rooms, exclude=exclude or None, key=key)

    def assert_newest(self) -> None:
        """Each peer got all without a key in order, the newest of each key, and nothing twice."""
        self.assert_rooms()
        for link in self.links:
            got = [each.payload for each in self.got(link) if each.opcode == TEXT]
            wanted = [each.payload for each in self.accepted[link] if each.opcode == TEXT]
            keyed = self.keyed[link]
            assert len(set(got)) == len(got)
            assert [each for each in got if each not in keyed] == [each for each in wanted if each not in keyed]
            newest = {keyed[each]: each for each in wanted if each in keyed}
            assert set(newest.values()) <= set(got)
            for state in newest:
                values = [each for each in wanted if keyed.get(each) == state and each in got]
                assert values == [each for each in got if keyed.get(each) == state]
            assert len(wanted) - len(got) == link.connection.dropped
            assert link.connection.buffered == 0
