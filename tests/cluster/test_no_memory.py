"""What crest.cluster does when there is no memory: whole records go on, or are counted; whichever allocation fails."""

import contextlib

import pytest
from support.bus import worker

from crest.cluster.outgoing import Outgoing
from crest.cluster.record import RecordKind, gap_in, pack, unpack
from crest.cluster.router import Router

_testcapi = pytest.importorskip("_testcapi", reason="this Python comes without the module that lets allocations fail")
pytestmark = pytest.mark.usefixtures("alone")

MESSAGE, GAP = RecordKind.MESSAGE, RecordKind.GAP
MOST = 40
"""Allocations of one call."""


def test_a_router_sends_whole_records_or_counts_them() -> None:
    failed = 0
    for limit in (400, 1 << 20):
        for number in range(MOST):
            router = Router()
            a, b = (router.join(each, Outgoing(None, limit, each)) for each in (1, 2))
            feeds = [b"".join(pack(MESSAGE, bytes(50), sequence=3 * at + i) for i in range(3)) for at in range(10)]
            whole = True
            for at, data in enumerate(feeds):
                if at == 5:
                    _testcapi.set_nomemory(number, number + 1)
                try:
                    router.feed(a, data)
                except MemoryError:
                    whole = False
                finally:
                    _testcapi.remove_mem_hooks()
            failed += not whole
            found, rest = unpack(b.queue.take(1 << 30))
            assert rest == b""
            numbers = [record.sequence for record in found if record.kind == MESSAGE]
            assert numbers == sorted(set(numbers))
            lost = sum(gap_in(pack(GAP, record.payload))[1] for record in found if record.kind == GAP)
            assert len(numbers) + lost <= 30
            if whole:
                assert len(numbers) + lost == 30
    assert failed > 0


def test_a_bus_relays_what_is_published_or_counts_it() -> None:
    failed = 0
    for queue in (500, 1 << 20):
        for number in range(MOST):
            with worker(queue=queue) as made:
                for at in range(10):
                    if at == 5:
                        _testcapi.set_nomemory(number, number + 1)
                    try:
                        made.stage.hub.broadcast("x" * 50, to="a" if at % 2 else None)
                    except MemoryError:
                        failed += 1
                    finally:
                        _testcapi.remove_mem_hooks()
                peer = made.connect_peer()
                with contextlib.suppress(MemoryError):
                    made.stage.end_turn(3)
                found = peer.records()
                messages = sum(record.kind == MESSAGE for record in found)
                lost = sum(sum(gap_in(pack(GAP, each.payload))[1:]) for each in found if each.kind == GAP)
                assert messages + lost == made.bus.published
                assert made.bus.published in (9, 10)
    assert failed > 0
