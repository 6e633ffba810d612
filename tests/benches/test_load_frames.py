"""The load generator of benches/load fails when a server's frame or handshake is wrong."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import (
    BINARY,
    BROADCAST,
    CLOSE,
    ECHO,
    PING,
    PONG,
    TEXT,
    Connection,
    Server,
    expect_failure,
    frame,
    response,
    run,
    wrong,
)


class TestWrongFrames:
    @pytest.mark.parametrize(
        ("bytes_of", "text"),
        [
            (lambda p: b"\x81\xc0\0\0\0\0" + p, "the server masked a frame"),
            (lambda p: b"\x81\x7e\x00\x40" + p, "length 64 is not in its shortest form"),
            (lambda p: b"\x81\x7f" + struct.pack("!Q", 64) + p, "length 64 is not in its shortest form"),
            (lambda p: b"\x81\x7f" + struct.pack("!Q", 1 << 63 | 64) + p, "the highest bit of a length is set"),
            (lambda p: frame(TEXT, p, rsv=4), "reserved bits 0x40 are set"),
            (lambda p: frame(TEXT, p, rsv=1), "reserved bits 0x10 are set"),
            (lambda p: frame(BINARY, p), "opcode 2 instead of 1"),
            (lambda p: frame(0, p), "opcode 0 instead of 1"),
            (lambda p: frame(3, p), "opcode 3 instead of 1"),
            (lambda p: frame(11, p), "unknown opcode 11"),
            (lambda p: frame(TEXT, p[:9], fin=False) + frame(TEXT, p[9:]), "opcode 1 inside a fragmented message"),
            (lambda p: frame(TEXT, p, fin=False) + frame(0, b"x"), "has at least 65 bytes instead of 64"),
            (lambda p: frame(PING, b"", fin=False) + frame(TEXT, p), "a fragmented control frame"),
            (lambda p: frame(PING, b"x" * 126) + frame(TEXT, p), "a control frame of more than 125 bytes"),
            (lambda p: frame(PONG, b"") + frame(TEXT, p), "a Pong without a Ping"),
            (lambda p: frame(CLOSE, b"\x03\xf3full"), "the server closed with 1011: full"),
            (lambda p: frame(CLOSE, b""), "the server closed with 1005"),
            (lambda p: frame(CLOSE, b"\x03"), "a Close frame with half a close code"),
        ],
    )
    def test_frame(self, load: Path, bytes_of: Callable[[bytes], bytes], text: str) -> None:
        server = Server(wrong(1)(lambda connection, opcode, payload: bytes_of(payload)))
        expect_failure(run(load, server, *ECHO), text)

    def test_bytes_after_the_close_frame(self, load: Path) -> None:
        class Trailing(Connection):
            def closed(self, payload: bytes) -> bytes:
                return frame(CLOSE, payload) + b"\x89"

        expect_failure(run(load, Server(Trailing), *ECHO), "bytes after the Close frame")

    def test_close_frame_that_is_not_answered(self, load: Path) -> None:
        class Silent(Connection):
            def closed(self, payload: bytes) -> bytes:
                return b""

        expect_failure(run(load, Server(Silent), *ECHO, "--stall", "0.3"), "3 of 3 Close frames were not answered")

    def test_connection_that_ends(self, load: Path) -> None:
        def end(connection: Connection, opcode: int, payload: bytes) -> bytes:
            connection.writer.close()
            return b""

        outcome = run(load, Server(wrong(1)(end)), *ECHO, "--depth", "1")  # with unread messages it would be a reset
        expect_failure(outcome, "the server ended the TCP connection without a closing handshake")


class TestWrongHandshakes:
    @pytest.mark.parametrize("mode", [ECHO, BROADCAST, ("idle", "--connections", "3"), ("rate",)])
    @pytest.mark.parametrize(
        ("old", "new", "text"),
        [
            (b"101 Switching Protocols", b"200 OK", "handshake refused: HTTP/1.1 200 OK"),
            (b"HTTP/1.1 101", b"HTTP/1.1 1010", "handshake refused: HTTP/1.1 1010"),
            (b"Upgrade: websocket\r\n", b"", "without Upgrade: websocket"),
            (b"Upgrade: websocket", b"Upgrade: h2c", "without Upgrade: websocket"),
            (b"Connection: Upgrade", b"Connection: close", "without Connection: Upgrade"),
            (b"Accept: ", b"Accept: A", "wrong Sec-WebSocket-Accept: A"),
            (b"Sec-WebSocket-Accept", b"Sec-WebSocket-Acceptance", "wrong Sec-WebSocket-Accept"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "an extension that was not"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n", "a subprotocol that was not offered"),
            (b"\r\n\r\n", b"\r\n" + b"X-Filler: " + b"x" * 5000, "the handshake response does not end"),
        ],
    )
    def test_response(self, load: Path, mode: tuple[str, ...], old: bytes, new: bytes, text: str) -> None:
        class Wrong(Connection):
            def opened(self, response: bytes) -> bytes:
                return response.replace(old, new)

        expect_failure(run(load, Server(Wrong), *mode), text)

    def test_accept_of_another_key(self, load: Path) -> None:
        class Wrong(Connection):
            def opened(self, _: bytes) -> bytes:
                return response(b"dGhlIHNhbXBsZSBub25jZQ==")

        expect_failure(
            run(load, Server(Wrong), *ECHO),
            "wrong Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo= instead of ",
        )

    def test_handshake_that_is_not_answered(self, load: Path) -> None:
        class Silent(Connection):
            def opened(self, response: bytes) -> bytes:
                return b""

        expect_failure(run(load, Server(Silent), *ECHO, "--stall", "0.3"), "3 of 3 handshakes were not answered")
