"""Request heads: however they are cut, the same comes of them; and what is found is what lies between the CRLFs.

Input: limits, cuts; then the head and what follows it.
"""

from fuzz.inputs import Input

from crest.exceptions import HandshakeError
from crest.wire.head import HeadReader, RequestHead, parse_head, path_of, split_target

LIMITS = [(16384, 100), (64, 100), (300, 3), (1 << 20, 1)]
"""Bytes, and header fields."""

Outcome = tuple[RequestHead, bytes] | int | None
"""The head, and what follows; or the status of the refusal; None: it is not complete."""


def read(chunks: list[bytes], limits: tuple[int, int]) -> Outcome:
    reader = HeadReader(*limits)
    for i, chunk in enumerate(chunks):
        try:
            head = reader.feed(chunk)
        except HandshakeError as error:
            assert error.reason.isascii() and error.reason.isprintable(), error.reason
            return error.status
        if head is not None:
            assert reader.is_head == (head.method == "HEAD")
            return head, reader.rest + b"".join(chunks[i + 1 :])
    return None


def check_fields(head: RequestHead) -> None:
    """Look for each field in every way that there is."""
    lines = head.raw.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    assert lines[0].startswith(head.method + " ") and lines[0].endswith(f"HTTP/{head.version}")
    assert head.target in lines[0] and " " not in head.target
    pairs = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:-2])]
    assert [(name.lower(), value) for name, value in head.headers.items()] == pairs
    for name in {name for name, _ in pairs}:
        if not name.replace("-", "a").isalpha():
            continue  # `joined` takes letters and hyphens only
        values = [value for other, value in pairs if other == name]
        assert head.joined(name.upper().encode()) == ",".join(values)
        tokens = {token.strip(" \t").lower() for value in values for token in value.split(",")}
        assert head.lists(name.encode(), b"upgrade") == ("upgrade" in tokens)
    body = dict(reversed(pairs))
    assert head.announces_body() == ("transfer-encoding" in body or bool(body.get("content-length", "").strip("0")))


def check_target(target: str) -> None:
    path, query = split_target(target)
    assert not path or path.startswith("/")
    assert "?" not in path and "#" not in path + query
    assert (path_of(target) == "") == (path == "")


def check(data: bytes) -> Outcome:
    given = Input(data)
    limits = given.choose(LIMITS)
    chunks = given.chunks()
    stream = b"".join(chunks)
    whole, found = read([stream] if stream else [], limits), read(chunks, limits)
    if not isinstance(whole, tuple):
        assert found == whole, f"in chunks: {found}\nas a whole: {whole}"
        return whole
    assert isinstance(found, tuple), f"in chunks: {found}\nas a whole: {whole}"
    head, rest = whole
    assert (found[0].raw, found[1]) == (head.raw, rest)
    assert stream.endswith(head.raw + rest) and not stream.removesuffix(head.raw + rest).strip(b"\r\n")
    assert parse_head(head.raw).raw == head.raw
    assert len(head.raw) <= limits[0] and len(head.headers) <= limits[1]
    check_fields(head)
    check_target(head.target)
    return whole
