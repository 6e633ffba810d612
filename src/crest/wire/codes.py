"""RFC 6455's numbers, by name: opcodes (section 5.2) and close codes (section 7.4), and which of them may be on the
wire.

A leaf: it imports nothing of crest. `rfc6455.pxd` holds the same numbers as compile-time constants.
"""

from enum import IntEnum
from typing import Final


class Opcode(IntEnum):
    """What a frame carries (RFC 6455 section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Why a connection ended (RFC 6455 section 7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    """Never on the wire: the peer's close frame had no code."""
    ABNORMAL_CLOSURE = 1006
    """Never on the wire: the TCP connection ended without a close frame."""
    INVALID_PAYLOAD_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015
    """Never on the wire: the TLS handshake failed."""


MAX_CONTROL_PAYLOAD: Final = 125
"""Bytes that the payload of a control frame may have (RFC 6455 section 5.5)."""

MAX_CLOSE_REASON: Final = MAX_CONTROL_PAYLOAD - 2
"""Bytes of UTF-8 that the reason in a close frame may have: two are the code's (section 5.5.1)."""


def is_wire_close_code(code: int) -> bool:
    """True if a close frame may carry this code, in either direction (section 7.4.2 and the IANA registry).

    1004-1006 and 1015 are reserved; 1016-2999 await a specification; 3000-3999 are registered, 4000-4999 private.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
