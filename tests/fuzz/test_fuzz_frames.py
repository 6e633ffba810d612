"""A short run of fuzz_frames.py, the same each time, and whether its cases reach every kind of event and of failure."""

import re

import pytest
from fuzz.fuzz_frames import check_numbered
from support.reference import BINARY, CLOSE, FAIL, PING, PONG, TEXT

SEED = 6455
CASES = 4000

FAILURES = {
    "a reserved bit is set, and no extension that defines it was negotiated",
    "RSVN is set, but not on the first frame of a message",
    "opcode N is reserved",
    "a control frame must not be fragmented",
    "a continuation frame, but no message has begun",
    "a new message, but the fragmented one before is not finished",
    "not masked, as every frame from a client must be",
    "the payload of a control frame is over N bytes",
    "length N has its most significant bit set",
    "length N is not in its shortest encoding",
    "a message of N bytes or more is over max_message_size, N",
    "compressed data of N bytes or more is over what a message of max_message_size, N, can need",
    "over max_message_rate: N messages a second, N at once",
    "over max_byte_rate: N bytes a second, N at once",
    "a message in more frames than max_fragments, N",
    "a text message is not UTF-N at byte N",
    "compressed data is not valid",
    "a compressed message ends within a block",
    "a close frame with a payload of one byte",
    "close code N may not be sent",
    "a close reason is not UTF-N at byte N",
}


def test_fuzz() -> None:
    events = [event for number in range(CASES) for event in check_numbered(SEED, number)]
    assert {event[0] for event in events} == {TEXT, BINARY, CLOSE, PING, PONG, FAIL}
    errors = {str(event[2]).split(": ", 1)[1] for event in events if event[0] == FAIL}
    assert {re.sub("0x[0-9a-f]|[0-9]+", "N", error) for error in errors} == FAILURES


def test_mismatch_says_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.reference.Frames.read_frame", lambda frames: (PING, frames.read(1)))
    with pytest.raises(AssertionError) as caught:
        for number in range(20):
            check_numbered(SEED, number)
    assert re.search(f"--seed {SEED} --case [0-9]+$", caught.value.__notes__[0])
