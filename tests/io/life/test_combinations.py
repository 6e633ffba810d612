"""Policies, keys, compression and threads together: whatever happens, each peer gets what it may get, and can read it.

Random stories like those of test_outbox_order.py. Each peer inflates what it gets with a stream of zlib's own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from itertools import count, product

import pytest
from support.client import CLOSE, TEXT, Frame
from support.compressing import Compressing, agreement
from support.link import SMALL_KERNEL, Link
from support.story import Story, brief

from crest.io.out.hub import POLICIES
from crest.wire.extensions import Deflate

CROWD = 300
"""Connections, so many that a crew's helpers are called."""

WORDS = [f"{word} " for word in "all human beings are born free and equal in dignity and rights".split()]
KEYS = [None, None, "a", ("b", 1), 3.0]


class Mixture(Story):
    """Connections that compress and others, small ones that stall and others that keep up; broadcasts with keys.

    Attributes:
        key_of: Of each message, by its payload; those without one are missing.
        keen: Those whose kernels have room, and who read whenever there is something.
    """

    def __init__(self, stage: Compressing, seed: int, crowd: int) -> None:
        self.key_of: dict[bytes, object] = {}
        self.keen: list[Link] = []
        self.numbers = count()
        super().__init__(stage, seed)
        few, self.links = self.links, []
        for link in [few[0], *(stage.client() for _ in range(crowd)), *few[1:]]:
            self.add(link)

    def join(self, _: object = None) -> None:
        """One in three does not compress, one in three keeps up."""
        number, stage = next(self.numbers), self.stage
        bits = self.random.choice([None, "10", "15"])
        agreed = agreement(stage.options, **({"server_max_window_bits": bits} if bits else {})) if number % 3 else None
        keen = self.random.random() < 0.3
        link = stage.link(agreed=agreed) if keen else stage.link(agreed=agreed, send_buffer=SMALL_KERNEL, room=3000)
        self.add(link)
        if keen:
            self.keen.append(link)

    def payload(self) -> bytes:
        self.serial += 1
        words = self.random.choice([0, 3, 10, 40, 40, 40, 300, 3000 if self.random.random() < 0.2 else 40])
        return f"{self.serial}:{''.join(self.random.choices(WORDS, k=words))}".encode()

    def broadcast(self, _: Link) -> None:
        data, key = self.payload(), self.random.choice(KEYS)
        if key is not None:
            self.key_of[data] = key
        for link in self.open():
            self.accepted[link].append(Frame(TEXT, data))
        self.stage.hub.broadcast(data.decode(), key, self.random.random() < 0.8)

    def send(self, link: Link) -> None:
        data = self.payload()
        was_open = link.connection.is_open()
        if link.connection.send(data.decode(), compress=self.random.random() < 0.8):
            self.accepted[link].append(Frame(TEXT, data))
        elif was_open:
            self.refused[link] += 1

    def read(self, link: Link) -> None:
        if link not in self.keen:  # reads all there is, and its kernel never becomes a small one
            super().read(link)

    def resume(self, link: Link) -> None:
        """It takes all that waited, between two messages of its own."""
        self.send(link)
        for _ in range(2):
            link.read_all()
            self.stage.end_turn()
        self.send(link)

    def end_turn(self, _: Link) -> None:
        self.stage.end_turn()
        for link in self.keen:
            link.read_all()

    def odds(self) -> dict[Callable[[Link], None], float]:
        often = {self.send: 10, self.broadcast: 10, self.burst: 0.5, self.receive: 1, self.read: 10}
        return often | {self.end_turn: 10, self.resume: 1, self.join: 0.5, self.close: 0.3}

    def anyone(self) -> Link:
        """Of a crowd, what matters are the few that are not alike."""
        return self.random.choice(self.links[:2] + self.links[-8:])

    def check(self, link: Link, policy: str) -> None:
        got, accepted = link.messages(), self.accepted[link]
        whole = not (got and got[-1].opcode == CLOSE and got[-1].code == 1013)
        if not whole:
            got.pop()
            assert policy in ("close", "latest")
            assert [event[0] for event in self.stage.seen(link)] == ["error", "close"]
        if policy == "close":
            assert_equal(got, accepted if whole else accepted[: len(got)])
        elif policy == "latest":
            self.check_latest(link, got, whole)
        else:
            assert_within(got, accepted)
        assert link.connection.dropped == len(accepted) - len(got) + self.refused[link]
        if link in self.keen:
            assert_equal(got, accepted)
        assert link.connection.buffered == 0

    def check_latest(self, link: Link, got: list[Frame], whole: bool) -> None:
        """What has no key comes in order, without a gap; what has one in order, and not before what was sent earlier
        without one. The newest of each key has come."""
        accepted, keys = self.accepted[link], self.key_of
        plain = [each for each in accepted if each.payload not in keys]
        plain_got = [each for each in got if each.payload not in keys]
        assert_equal(plain_got, plain if whole else plain[: len(plain_got)])
        assert_within([each for each in got if each.payload in keys], accepted)
        places = {each.payload: place for place, each in enumerate(got)}
        last = -1
        for each in accepted:
            place = places.get(each.payload)
            if each.payload not in keys:
                last = place if place is not None else len(got)
            elif place is not None:
                assert place > last, f"{brief([each])} is before what was sent before it"
        if whole:
            newest = {keys[each.payload]: each.payload for each in accepted if each.payload in keys}
            assert set(newest.values()) <= set(places)


def assert_equal(got: list[Frame], accepted: list[Frame]) -> None:
    assert brief(got) == brief(accepted)
    assert got == accepted


def assert_within(got: list[Frame], accepted: list[Frame]) -> None:
    left = iter(accepted)
    for each in got:
        assert each in left, f"{brief([each])} is not behind what came before it"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("policy", "takeover"),
    [pair for pair in product(POLICIES, (False, True)) if pair != ("drop-oldest", True)],  # which servers refuse
)
def test_whatever_happens(direct: bool, policy: str, takeover: bool, threads: int, seed: int) -> None:
    options = Deflate(server_no_context_takeover=not takeover, threshold=30)
    limits = {"on_backlog": policy, "fanout_threads": threads, "max_backlog": [20_000, 200_000][seed]}
    with closing(Compressing(direct, options, fanout_slice=[1.0, 1e-9][seed], **limits)) as stage:
        story = Mixture(stage, seed, CROWD if threads > 1 else 0)
        story.tell(300)
        for link in story.links:
            story.check(link, policy)
