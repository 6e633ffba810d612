"""Header fields that an application adds to the head of an opening handshake (RFC 9110 section 5): pairs -> bytes.

It knows which fields an opening handshake has of its own, on either side, and what names and values may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

Field = tuple[str | bytes, str | bytes]
"""A header field: its name, and its value. A `str` is sent as Latin-1."""

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")  # token, RFC 9110 section 5.6.2
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*+")  # field-value, section 5.5: no CR, LF, NUL

_OWN: Final = frozenset({"connection", "content-length", "host", "transfer-encoding", "upgrade"})
_OWN_PREFIX: Final = "sec-websocket-"  # RFC 6455 section 11.3


def extra_fields(headers: Iterable[Field]) -> bytes:
    """Write header fields as lines, each with its CRLF.

    Raises:
        TypeError: One is no pair of `str` or bytes.
        ValueError: HTTP does not allow it, or the opening handshake has it itself.
    """
    return b"".join(_line(each) for each in headers)


def _line(field: Field) -> bytes:
    if not isinstance(field, tuple | list) or len(field) != 2:
        raise TypeError(f"a header is a pair of name and value, not {field!r}")
    name, value = _text(field[0]), _text(field[1])
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"not a header name: {name!r}")
    if name.lower() in _OWN or name.lower().startswith(_OWN_PREFIX):
        raise ValueError(f"the opening handshake sets the header {name} itself")
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the header {name} has a value that HTTP does not allow: {value!r}")
    return f"{name}: {value}\r\n".encode("latin-1")


def _text(value: str | bytes) -> str:
    """Decode a name or a value. A subclass's methods could say something else than what was checked."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes.decode(value, "latin-1")
    raise TypeError(f"names and values of headers are str or bytes, not {type(value).__name__}")
