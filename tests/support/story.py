"""Random events on several connections of one server, and what each peer must have got in the end."""

from __future__ import annotations

import random
from collections.abc import Callable

from support.client import BINARY, CLOSE, PONG, TEXT, Frame
from support.link import SMALL_KERNEL, Link, Scene, ping, text


class Story:
    """Random events on several connections, and what each peer must have got in the end."""

    def __init__(self, stage: Scene, seed: int) -> None:
        self.random = random.Random(seed)
        self.stage = stage
        self.links: list[Link] = []
        self.accepted: dict[Link, list[Frame]] = {}
        self.refused: dict[Link, int] = {}
        self.serial = 0
        stage.hub.on_message = self.answer
        for _ in range(self.random.randint(2, 5)):
            self.join()

    def answer(self, conn: object, message: str) -> None:
        link = conn.link  # type: ignore[attr-defined]
        for _ in range(self.random.randint(0, 3)):
            self.random.choice([self.send, self.send, self.broadcast])(link)
        if message == "close":
            self.close(link)

    def payload(self) -> bytes:
        """One that no other message has, of a size around the bounds that the outbox and the fan-out have."""
        self.serial += 1
        size = self.random.choice([0, 10, 100, 118, 8000, 8190, 20_000, 65_530, 66_000, 150_000, 270_000])
        size = size if self.random.random() < 0.3 else size % 300
        return b"%d:" % self.serial + bytes([97 + self.serial % 26]) * size

    def open(self) -> list[Link]:
        return [link for link in self.links if link.connection.is_open()]

    def join(self, _: object = None) -> None:
        small = self.random.random() < 0.7
        link = self.stage.link(send_buffer=SMALL_KERNEL if small else None, room=3000 if small else None)
        self.add(link)

    def add(self, link: Link) -> None:
        self.links.append(link)
        self.accepted[link], self.refused[link] = [], 0

    def send(self, link: Link) -> None:
        data, conn = self.payload(), link.connection
        was_open = conn.is_open()
        how = self.random.randrange(3)
        if how == 0:
            sent, accepted = Frame(TEXT, data), conn.send(data.decode())
        elif how == 1:
            sent, accepted = Frame(BINARY, data), conn.send_binary(data)
        else:
            mutable = bytearray(data)
            sent, accepted = Frame(BINARY, data), conn.send_binary(mutable)
            mutable[:] = b"!" * len(mutable)
        if accepted:
            self.accepted[link].append(sent)
        elif was_open:
            self.refused[link] += 1

    def burst(self, link: Link) -> None:
        for _ in range(self.random.randint(1, 60)):
            self.random.choice([self.send, self.broadcast])(link)

    def broadcast(self, _: Link) -> None:
        data = self.payload()
        for link in self.open():
            self.accepted[link].append(Frame(TEXT, data))
        self.stage.hub.broadcast(data.decode())

    def close(self, link: Link) -> None:
        if link.connection.is_open():
            link.connection.close(4000)
            self.accepted[link].append(Frame(CLOSE, (4000).to_bytes(2, "big")))

    def receive(self, link: Link) -> None:
        """Several frames come at once."""
        frames = [text("close" if self.random.random() < 0.01 else "hello") for _ in range(self.random.randint(1, 4))]
        link.receive(b"".join(frames))

    def pinged(self, link: Link) -> None:
        self.serial += 1
        if link.connection.is_open():
            self.accepted[link].append(Frame(PONG, b"%d" % self.serial))
            link.receive(ping(b"%d" % self.serial))

    def read(self, link: Link) -> None:
        link.read(self.random.choice([1, 100, 5000, 100_000]))
        link.transport.writable(self.random.choice([1, 1000, 100_000]))

    def end_turn(self, _: Link) -> None:
        self.stage.end_turn()

    def odds(self) -> dict[Callable[[Link], None], float]:
        """What happens, and how often."""
        often = {self.send: 10, self.broadcast: 10, self.burst: 1, self.receive: 3, self.pinged: 2}
        return often | {self.read: 8, self.end_turn: 8, self.join: 0.3, self.close: 0.2}

    def anyone(self) -> Link:
        return self.random.choice(self.links)

    def tell(self, steps: int) -> None:
        odds = self.odds()
        for step in self.random.choices(list(odds), list(odds.values()), k=steps):
            step(self.anyone())
        self.end()

    def end(self) -> None:
        """Everyone gets what is left."""
        for _ in range(4):
            self.stage.end_turn(3 * len(self.links) if self.stage.hub.fanout_slice < 1 else 1)
            for link in self.links:
                link.read_all()

    def assert_complete(self) -> None:
        """Each peer got, once and in order, what was sent to it or broadcast while it was open."""
        for link in self.links:
            frames = link.frames()
            assert brief(frames) == brief(self.accepted[link])
            assert frames == self.accepted[link]
            assert link.connection.dropped == self.refused[link] == 0
            assert link.connection.buffered == 0


class ComingAndGoing(Story):
    """While connections open and close, there are broadcasts to so many that they are interrupted."""

    def __init__(self, stage: Scene, seed: int, crowd: int) -> None:
        super().__init__(stage, seed)
        for _ in range(crowd):
            self.join()

    def payload(self) -> bytes:
        self.serial += 1
        return b"%d:" % self.serial + b"x" * self.random.choice([0, 100, 9000])

    def join(self, _: object = None) -> None:
        self.add(self.stage.link(send_buffer=self.random.choice([None, SMALL_KERNEL])))

    def odds(self) -> dict[Callable[[Link], None], float]:
        return {self.join: 3, self.close: 2, self.send: 2, self.broadcast: 2, self.read: 0.5, self.end_turn: 2}


def brief(frames: list[Frame]) -> list[tuple[int, bytes, int]]:
    """Frames as a failing test shows them: a payload begins with a number that no other has."""
    return [(each.opcode, each.payload[:6], len(each.payload)) for each in frames]
