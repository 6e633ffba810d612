"""A TLS 1.3 client's KeyUpdates (RFC 8446 section 4.6.3), which Python's ssl has no call for: OpenSSL's, by ctypes."""

from __future__ import annotations

import ctypes
import ssl
import sys
from typing import Any

import pytest

REQUESTED = 1
"""Of a KeyUpdate that wants one in answer: `SSL_KEY_UPDATE_REQUESTED`."""

TLS_1_3 = 0x0304

SIZE = 27
"""Bytes of a KeyUpdate's record: its header, one handshake message of 5, a content type and a tag of 16."""


def openssl() -> Any:
    """The library that Python's ssl module uses."""
    if sys.implementation.name != "cpython":
        pytest.skip("the pointer to OpenSSL's object is looked for where CPython has it")
    import _ssl

    library = ctypes.CDLL(_ssl.__file__)
    if not hasattr(library, "SSL_key_update"):
        pytest.skip("OpenSSL's functions can not be called in this Python")
    return library


def key_updates(tls: ssl.SSLObject, count: int) -> None:
    """Have the client send so many, each of which wants an answer; their records are in its outgoing BIO then."""
    library = openssl()
    # CPython's PySSLSocket: what every object has, a reference, and then the SSL*.
    place = id(tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # type: ignore[attr-defined]
    pointer = ctypes.c_void_p.from_address(place)
    assert library.SSL_version(pointer) == TLS_1_3
    for _ in range(count):
        assert library.SSL_key_update(pointer, REQUESTED) == 1
        assert library.SSL_do_handshake(pointer) == 1
