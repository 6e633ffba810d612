"""The PROXY protocol's header: however it is cut, the same comes of it; and an address is one.

Input: cuts, then the header and what follows it.
"""

from ipaddress import ip_address

from fuzz.inputs import Input

from crest.wire.proxy import LONGEST, MalformedHeader, ProxyHeader

Outcome = tuple[int, tuple[str, int] | None, bool] | str | None
"""Bytes of the header, source and TLS; or what is wrong; None: it is not complete."""


def read(chunks: list[bytes]) -> Outcome:
    header, size = ProxyHeader(), 0
    for chunk in chunks:
        try:
            taken = header.feed(chunk)
        except MalformedHeader as error:
            return str(error)
        size += taken
        if header.complete:
            assert 0 < taken <= len(chunk)
            return size, header.source, header.tls
        assert taken == len(chunk) and header.begun and header.source is None
    return None


def check(data: bytes) -> Outcome:
    chunks = Input(data).chunks()
    stream = b"".join(chunks)
    whole = read([stream] if stream else [])
    assert read(chunks) == whole
    if isinstance(whole, tuple):
        size, source, _ = whole
        assert 0 < size <= min(LONGEST, len(stream))
        assert read([stream[:size]]) == whole, "what follows changes it"
        assert read([stream[: size - 1]]) is None, "it was complete before"
        if source is not None:
            assert str(ip_address(source[0])) == source[0] and 0 <= source[1] <= 0xFFFF
    return whole
