"""crest.wire.codes against RFC 6455 and the IANA registry; rfc6455.pxd, its compile-time twin, against the same."""

import re
from pathlib import Path

import pytest

import crest.wire.codes
from crest.wire.codes import MAX_CLOSE_REASON, MAX_CONTROL_PAYLOAD, CloseCode, Opcode, is_wire_close_code
from crest.wire.frames import FrameReader, serialize

# https://www.iana.org/assignments/websocket: what may be in a close frame, by name.
REGISTERED = {
    1000: "NORMAL_CLOSURE",
    1001: "GOING_AWAY",
    1002: "PROTOCOL_ERROR",
    1003: "UNSUPPORTED_DATA",
    1007: "INVALID_PAYLOAD_DATA",
    1008: "POLICY_VIOLATION",
    1009: "MESSAGE_TOO_BIG",
    1010: "MANDATORY_EXTENSION",
    1011: "INTERNAL_ERROR",
    1012: "SERVICE_RESTART",
    1013: "TRY_AGAIN_LATER",
    1014: "BAD_GATEWAY",
}
# Section 7.4.1: these "MUST NOT be set as a status code in a Close control frame by an endpoint".
NEVER_SENT = {1005: "NO_STATUS_RECEIVED", 1006: "ABNORMAL_CLOSURE", 1015: "TLS_HANDSHAKE"}
# Section 7.4.2: for libraries and frameworks, and for private use.
UNNAMED = range(3000, 5000)


def test_opcodes() -> None:
    expected = {"CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10}
    assert {opcode.name: opcode.value for opcode in Opcode} == expected
    for reserved in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        with pytest.raises(ValueError, match="is not a valid Opcode"):
            Opcode(reserved)


def test_close_codes() -> None:
    assert {code.value: code.name for code in CloseCode} == REGISTERED | NEVER_SENT


def test_limits_of_control_frames() -> None:
    assert (MAX_CONTROL_PAYLOAD, MAX_CLOSE_REASON) == (125, 123)


def test_is_wire_close_code() -> None:
    allowed = {*REGISTERED, *UNNAMED}
    for code in (*range(1 << 16), -1, -1000, 1 << 16, (1 << 16) + 1000, (1 << 32) + 1000):
        assert is_wire_close_code(code) is (code in allowed), code


def test_compile_time_is_wire_close_code() -> None:
    """The reader has it inlined: it lets in the same codes."""
    for code in range(1 << 16):
        # With a masking key of zeros.
        [event] = FrameReader().feed(b"\x88\x82\0\0\0\0" + code.to_bytes(2, "big"))
        assert (event[0] == Opcode.CLOSE) is is_wire_close_code(code), code


def test_compile_time_constants() -> None:
    source = Path(crest.wire.codes.__file__).with_name("rfc6455.pxd")
    if not source.exists():
        pytest.skip("rfc6455.pxd is not installed: only a source tree has it")
    constants = {
        name: int(value, 0) for name, value in re.findall(r"^    ([A-Z_]+) = (\w+)$", source.read_text(), re.MULTILINE)
    }
    assert constants == {
        **{f"OPCODE_{opcode.name}": opcode.value for opcode in Opcode},
        **{f"CLOSE_{code.name}": code.value for code in CloseCode},
        "MAX_CONTROL_PAYLOAD": MAX_CONTROL_PAYLOAD,
        "MAX_CLOSE_REASON": MAX_CLOSE_REASON,
    }


@pytest.mark.parametrize("opcode", Opcode)
def test_opcode_is_what_the_writer_takes(opcode: Opcode) -> None:
    assert serialize(opcode, b"") == bytes([0x80 | opcode, 0])
