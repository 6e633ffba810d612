"""crest.cluster.switch: links come and go, and the log hears of workers that do not keep up."""

import logging

import pytest
from support.bus import join, switch

from crest.cluster.record import RecordKind, gap_in, pack

MESSAGE, GAP = RecordKind.MESSAGE, RecordKind.GAP


def test_a_worker_that_stops_reading_holds_up_none(caplog: pytest.LogCaptureFixture) -> None:
    with switch() as (stage, made), caplog.at_level(logging.WARNING, "crest"):
        a, slow, quick = join(made, 1), join(made, 2, 10_000, buffer=4608), join(made, 3)
        got = 0
        for number in range(1, 1001):
            a.sock.send(pack(MESSAGE, bytes(60), sequence=number))
            stage.end_turn(2)
            got += len(quick.records())
        assert got == 1000
        assert caplog.records == []
        stage.loop.advance(1.1)
        [record] = caplog.records
        assert record.getMessage().startswith("Worker 2 does not keep up: ")
        found = []
        for _ in range(20):
            found += slow.records()
            stage.end_turn(2)
        lost = sum(gap_in(pack(GAP, each.payload))[1] for each in found if each.kind == GAP)
        assert lost + sum(each.kind == MESSAGE for each in found) == 1000
        assert record.getMessage() == f"Worker 2 does not keep up: {lost} messages for it were dropped"
        stage.loop.advance(5)
        assert len(caplog.records) == 1


def test_a_link_that_is_lost_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    with switch() as (stage, made), caplog.at_level(logging.WARNING, "crest"):
        a, b = join(made, 1), join(made, 2)
        a.sock.send(pack(RecordKind.INTEREST, to=("x",)))
        stage.end_turn(2)
        a.sock.close()
        stage.end_turn(2)
        assert [port.number for port in made.ports.values()] == [2]
        assert made.router.interested(0, pack(1, to=("x",))[40:]) == []
        assert caplog.records == []
        b.sock.send(b"\0" * 100)
        stage.end_turn(2)
        assert "The link to worker 2 was cut" in caplog.text


def test_a_descriptor_that_is_no_socket_is_refused() -> None:
    with switch() as (_, made):
        with pytest.raises((OSError, ValueError)):
            made.add(10_000, 1, 1)
        assert made.ports == {}
