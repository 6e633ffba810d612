"""crest.cluster.losses: what was lost is told, once a second at most. Tested through a bus, which notes it."""

import logging
from itertools import pairwise

import pytest
from support.bus import worker

from crest.cluster.record import pack_gap
from crest.gap import Gap


def test_losses_are_gathered_and_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    with worker() as made, caplog.at_level(logging.WARNING, "crest"):
        peer = made.connect_peer()
        told = []
        for tenth in range(30):
            peer.sock.send(pack_gap(cause=1, plain=1, since=1000 + tenth, until=2000 + tenth))
            made.stage.end_turn(2)
            made.stage.loop.advance(0.1)
            if made.gaps:
                told.append(tenth)
                made.gaps.clear()
        assert made.bus.losses.totals["slow"] == 30
        assert 3 <= len(told) <= 4
        assert len(caplog.records) == len(told)
        assert all(after - before >= 10 for before, after in pairwise(told))


def test_each_cause_for_itself() -> None:
    with worker() as made:
        peer = made.connect_peer()
        peer.sock.send(pack_gap(cause=1, plain=1, addressed=2, since=3000, until=4000))
        peer.sock.send(pack_gap(cause=1, plain=3, since=2000, until=2500))
        peer.sock.send(pack_gap(cause=2, plain=5, uncertain=1, since=7000, until=8000))
        made.stage.end_turn(2)
        made.stage.loop.advance(0.2)
        assert made.gaps == [Gap(6, "slow", 2.0, 4.0), Gap(None, "queue", 7.0, 8.0)]
        assert made.bus.losses.totals == {"slow": 6, "queue": 5, "exchange": 0, "unsent": 0}


def test_a_handler_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with worker(on_gap=lambda gap: 1 / 0) as made:
        peer = made.connect_peer()
        peer.sock.send(pack_gap(cause=1, plain=1) + pack_gap(cause=2, plain=1))
        made.stage.end_turn(2)
        made.stage.loop.advance(0.2)
        assert caplog.text.count("on_gap failed") == 2
