"""crest.io.net.peer: what a transport says of its peer."""

from typing import Any

import pytest

from crest.io.net.peer import client_address, scheme_of


class Transport:
    def __init__(self, **info: Any) -> None:
        self.info = info

    def get_extra_info(self, name: str) -> Any:
        return self.info.get(name)


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.7", 80), ("192.0.2.7", 80)),
        (("2001:db8::1", 80, 0, 0), ("2001:db8::1", 80)),
        ("", None),
        (b"\0abstract", None),
        (None, None),
    ],
)
def test_address(peername: Any, address: Any) -> None:
    assert client_address(Transport(peername=peername)) == address  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tls", "ended", "scheme"), [(0, 0, "http"), (1, 0, "https"), (0, 1, "https"), (1, 1, "https")]
)
def test_scheme(tls: int, ended: int, scheme: str) -> None:
    transport = Transport(sslcontext=object() if tls else None)
    assert scheme_of(transport, bool(ended)) == scheme  # type: ignore[arg-type]
