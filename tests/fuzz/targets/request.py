"""What handlers see of a request: path, query and cookies of anything that passes for a request head.

Input: whether what follows is a cookie, a request target or a whole head.
"""

from typing import Any
from urllib.parse import unquote

from fuzz.inputs import Input

from crest.exceptions import HandshakeError
from crest.http.messages import Request, parse_cookies
from crest.wire.head import RequestHead, parse_head

HEADS = [b"GET / HTTP/1.1\r\nCookie: %b\r\n\r\n", b"GET %b HTTP/1.1\r\n\r\n", b"%b"]


def check_cookies(value: str, cookies: dict[str, str]) -> None:
    """A cookie is what is written between semicolons; the first one of a name counts."""
    parts = [part.partition("=") for part in value.split(";")]
    names = [name.strip(" \t") for name, equals, _ in parts if equals and name.strip(" \t")]
    assert list(cookies) == list(dict.fromkeys(names))
    for name, found in cookies.items():
        content = next(content for other, equals, content in parts if equals and other.strip(" \t") == name)
        assert found in (content.strip(" \t"), content.strip(" \t")[1:-1])
    assert parse_cookies(f"{value}; added=1") == cookies | {"added": cookies.get("added", "1")}


def check(data: bytes) -> dict[str, Any] | None:
    given = Input(data)
    form = given.choose(HEADS)
    try:
        head: RequestHead = parse_head(form % given.rest())
    except (HandshakeError, ValueError):  # refused; or not one head, but more or less
        return None
    request = Request(head, None)
    cookies, query = request.cookies, list(request.query.items())
    check_cookies("; ".join(head.headers.getall("Cookie", ())), cookies)
    assert request.path == unquote(request.raw_path, errors="replace")
    assert len(query) == sum(1 for each in request.query_string.split("&") if each)
    assert repr(request).isprintable()
    return {"path": request.path, "query": query, "cookies": cookies}
