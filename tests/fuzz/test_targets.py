"""Each fuzz target that needs Python, over its corpus: nothing fails, and the corpus reaches what the target is for."""

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from fuzz.fuzz_frames import make_case
from fuzz.harness import TARGETS, load
from fuzz.inputs import Input, pieces
from fuzz.targets import client, connection, deflate, differential, frames, handshake
from support.reference import BINARY, CLOSE, FAIL, PING, PONG, TEXT

from crest.wire import frames as wire_frames

CORPUS = Path(__file__).parent / "corpus"
MOST = 300_000
"""Bytes that the corpora may have in all: they come with every clone."""


@pytest.fixture(scope="module", autouse=True)
def ended_worlds() -> Iterator[None]:
    yield
    connection.end_worlds()


@cache
def outcomes(name: str) -> list[object]:
    """What the target returns for each input of its corpus."""
    check = load(name)
    return [check(path.read_bytes()) for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    assert len(outcomes(name)) >= 20


def test_every_target_has_a_corpus_and_it_is_small() -> None:
    kernels = {path.stem for path in (CORPUS.parent / "kernels").glob("*.c")}
    assert {path.name for path in CORPUS.iterdir()} == kernels | set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MOST


def test_frames_reach_every_event() -> None:
    for name in ("frames", "oracle"):
        kinds = {event[0] for events in outcomes(name) for event in events}  # type: ignore[attr-defined]
        assert kinds == {TEXT, BINARY, CLOSE, PING, PONG, FAIL}, name


@pytest.mark.parametrize("name", ["differential", "client"])
def test_every_deviation_from_websockets_is_reached(name: str) -> None:
    """A row that no input needs would hide faults."""
    found = {sentence for _, sentence in outcomes(name)}  # type: ignore[misc]
    rows = {deviation.why for deviation in differential.DEVIATIONS}
    others = {differential.CLOSE_WITHIN_A_MESSAGE, differential.WITHIN_A_BLOCK, differential.COUNTED_OTHERWISE}
    assert found == rows | others | {None}


def test_clients_read_every_event_and_refuse_masked_frames() -> None:
    found = [event for events, _ in outcomes("client") for event in events]  # type: ignore[misc]
    assert {event[0] for event in found} == {TEXT, BINARY, CLOSE, PING, PONG, FAIL}
    assert any("masked, as no frame from a server may be" in str(event[-1]) for event in found)


def test_handshakes_are_accepted_and_refused() -> None:
    found = outcomes("handshake")
    assert {each for each in found if isinstance(each, int)} == {400, 426}
    accepted = b"".join(each for each in found if isinstance(each, bytes))
    for words in (b"permessage-deflate", b"client_max_window_bits=", b"server_max_window_bits=", b"Protocol: chat"):
        assert words in accepted


def test_heads_fail_in_every_way() -> None:
    assert {each for each in outcomes("head") if isinstance(each, int)} == {400, 431, 505}


def test_proxy_headers_of_both_versions() -> None:
    found = outcomes("proxy")
    sources = {each[1] for each in found if isinstance(each, tuple)}
    assert {":" in source[0] for source in sources if source} == {True, False} and None in sources
    assert any(each[2] for each in found if isinstance(each, tuple)), "none says TLS"
    assert any("checksum" in each for each in found if isinstance(each, str))


def test_records_of_every_kind_and_links_that_are_cut_off() -> None:
    found = {each for seen in outcomes("records") for each in seen}  # type: ignore[attr-defined]
    assert {"MESSAGE", "GAP", "OPAQUE", "START", "LEFT"} <= found
    assert any("has version" in each for each in found) and any("no room for its parts" in each for each in found)


def test_connections_open_close_and_are_refused() -> None:
    found = [each for each in outcomes("connection") if isinstance(each, connection.Outcome)]
    names = {event[0] for each in found for event in each.events}
    assert names == {"connect", "message", "binary", "error", "close"}
    targets = {event[1] for each in found for event in each.events if event[0] == "connect"}
    assert {"/ws", "/async"} <= targets
    statuses = set(re.findall(rb"HTTP/1.1 (\d+) ", b"".join(each.sent for each in found)))
    assert {b"101", b"200", b"400", b"404", b"426"} <= statuses


# ---- Targets fail when something is wrong ----------------------------------------------------------------------------


class Forgetful:
    """A reader that loses the first byte of every chunk but the first."""

    def __init__(self, **options: object) -> None:
        self.reader = wire_frames.FrameReader()
        self.begun = False

    def feed(self, chunk: bytes) -> object:
        chunk, self.begun = chunk[self.begun :], True
        return self.reader.feed(chunk)

    feed_direct = feed


def test_a_split_that_shows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "make_reader", Forgetful)
    with pytest.raises(AssertionError, match=r"in chunks: .*\nas a whole: "):
        frames.check(b"\0\0\0\0\x80\x81\x81\0\0\0\0a")


def test_a_message_that_websockets_reads_otherwise_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differential.Theirs, "end_message", lambda self: self.message.clear())
    with pytest.raises(AssertionError, match=r"crest: .*'a'.*\nwebsockets: "):
        differential.check(b"\0\0\x81\x81\0\0\0\0a")


def test_a_message_that_a_client_of_websockets_reads_otherwise_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differential.Theirs, "end_message", lambda self: self.message.clear())
    with pytest.raises(AssertionError, match=r"crest: .*'a'.*\nwebsockets: "):
        client.check(b"\0\0\x81\x01a")


def test_a_wrong_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "GUID", b"")
    with pytest.raises(AssertionError):
        handshake.check(b"\2\0chat")


def test_what_zlib_reads_otherwise_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "inflate_by_zlib", lambda payload: b"other")
    with pytest.raises(AssertionError, match="expected b'other'"):
        deflate.check(b"\0\0\0\0\0")


def test_a_connection_that_loses_a_message_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    [stream] = [path for path in (CORPUS / "connection").iterdir() if b"x" in path.read_bytes()][:1]
    monkeypatch.setattr(connection.World, "tell", lambda *_: connection.Outcome([id(object())], b""))  # type: ignore[list-item]
    with pytest.raises(AssertionError, match="in chunks: "):
        connection.check(stream.read_bytes())


# ---- Inputs ----------------------------------------------------------------------------------------------------------


def test_chunks_are_all_of_the_rest() -> None:
    assert Input(b"\x80abc").chunks() == [b"a", b"b", b"c"]
    assert Input(b"\x81abc").chunks() == [b"ab", b"c"]
    assert Input(b"\0abc").chunks() == [b"abc"]
    assert Input(b"\x02\1\0abc").chunks() == [b"a", b"bc"]
    assert Input(b"").chunks() == []
    for number in range(100):
        stream = make_case(random.Random(number)).stream
        for sizes in ([], [1], [0, 3, 1 << 20], [7] * 1000):
            assert b"".join(pieces(stream, sizes)) == stream


def test_bytes_that_are_missing_count_as_zero() -> None:
    given = Input(b"\3")
    assert (given.choose("abcd"), given.choose("abcd"), given.byte(), given.rest()) == ("d", "a", 0, b"")
