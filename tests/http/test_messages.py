"""crest.http.messages: the request as handlers see it, and responses as bytes (RFC 9110, RFC 9112, RFC 6265)."""

import io
import json
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import pytest
from multidict import CIMultiDict

from crest.exceptions import HandshakeError
from crest.http.messages import (
    FileResponse,
    Request,
    Response,
    error_response,
    keeps_alive,
    parse_cookies,
    serialize,
    to_response,
)
from crest.wire.head import RequestHead, parse_head


def request(target: str = "/", *headers: bytes) -> Request:
    return Request(head(target, *headers), ("127.0.0.1", 5000))


def head(target: str = "/", *headers: bytes, version: bytes = b"1.1") -> RequestHead:
    line = b"GET " + target.encode() + b" HTTP/" + version
    return parse_head(b"\r\n".join([line, *headers, b"", b""]))


def parts(data: bytes) -> tuple[str, CIMultiDict[str], bytes]:
    """Status line, headers and content of a serialized response."""
    raw, _, content = data.partition(b"\r\n\r\n")
    line, *fields = raw.decode("latin-1").split("\r\n")
    return line, CIMultiDict([(name, value) for name, _, value in (field.partition(": ") for field in fields)]), content


# --- Request


def test_a_request_shows_its_head() -> None:
    it = request("/a%20b?x=1&y=%C3%A9&x=2&z=#f", b"Host: a", b"X-One: 1", b"x-one: 2")
    assert (it.method, it.target) == ("GET", "/a%20b?x=1&y=%C3%A9&x=2&z=#f")
    assert (it.path, it.raw_path, it.query_string) == ("/a b", "/a%20b", "x=1&y=%C3%A9&x=2&z=")
    assert list(it.query.items()) == [("x", "1"), ("y", "é"), ("x", "2"), ("z", "")]
    assert it.query.getall("x") == ["1", "2"]
    assert it.headers.getall("X-ONE") == ["1", "2"]
    assert (it.client, it.scheme) == (("127.0.0.1", 5000), "http")
    assert repr(it) == "<Request GET /a%20b?x=1&y=%C3%A9&x=2&z=#f>"


def test_a_request_without_query_and_cookies() -> None:
    it = request("/")
    assert (it.query_string, len(it.query), it.cookies) == ("", 0, {})


def test_query_and_cookies_are_parsed_once() -> None:
    it = request("/?a=1", b"Cookie: a=1")
    assert it.query is it.query
    assert it.cookies is it.cookies


def test_a_query_that_is_no_utf_8() -> None:
    assert request("/?a=%ff&%fe").query == {"a": "�", "�": ""}


def test_an_absolute_target_has_a_query_too() -> None:
    it = request("http://host/ws?token=1")
    assert (it.raw_path, it.query["token"]) == ("/ws", "1")


@pytest.mark.parametrize(
    ("value", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2;c=3 ;  d = 4 ", {"a": "1", "b": "2", "c": "3", "d": "4"}),
        ("a=1; a=2", {"a": "1"}),
        ("nonsense; a=1; =2; ;; b", {"a": "1"}),
        ('a="1 2"; b="', {"a": "1 2", "b": '"'}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=; b", {"a": ""}),
        ("a[]{}=1; b=x,y", {"a[]{}": "1", "b": "x,y"}),
        ("expires=x; path=/; A=1; a=2", {"expires": "x", "path": "/", "A": "1", "a": "2"}),
        ("a=\xff; b=1", {"a": "\xff", "b": "1"}),
        ("\ta\t=\t1\t; \t b=2", {"a": "1", "b": "2"}),
        ("\xa0__Host-x=1; a=\x85 1\xa0", {"\xa0__Host-x": "1", "a": "\x85 1\xa0"}),
        ("\x1ca\x1f=\x0b1\x0c", {"\x1ca\x1f": "\x0b1\x0c"}),
    ],
)
def test_parse_cookies(value: str, cookies: dict[str, str]) -> None:
    assert parse_cookies(value) == cookies


def test_several_cookie_headers_count() -> None:
    assert request("/", b"Cookie: a=1", b"cookie: b=2").cookies == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("version", "headers", "kept"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: Upgrade,\tCLOSE"], False),
        (b"1.1", [b"Connection: a", b"Connection: close"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.1", [b"Content-Length: 0"], True),
        (b"1.1", [b"Content-Length: 2"], False),
        (b"1.1", [b"Transfer-Encoding: chunked"], False),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: a, Keep-Alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
        (b"1.0", [b"Keep-Alive: timeout=5"], False),
        (b"1.0", [b"Connection: keep-alive", b"Content-Length: 2"], False),
        (b"1.0", [b"Connection: keep-alive", b"Transfer-Encoding: chunked"], False),
    ],
)
def test_keeps_alive(version: bytes, headers: list[bytes], kept: bool) -> None:
    assert keeps_alive(head("/", *headers, version=version)) is kept


# --- Response


@pytest.mark.parametrize(
    ("response", "content_type", "body"),
    [
        (Response("<h1>é</h1>"), "text/html; charset=utf-8", b"<h1>\xc3\xa9</h1>"),
        (Response(b"\0\1"), "application/octet-stream", b"\0\1"),
        (Response(bytearray(b"ab")), "application/octet-stream", b"ab"),
        (Response(memoryview(b"ab")), "application/octet-stream", b"ab"),
        (Response("a", content_type="text/plain"), "text/plain; charset=utf-8", b"a"),
        (Response("a", content_type="text/plain; Charset=ascii"), "text/plain; Charset=ascii", b"a"),
        (Response("{}", content_type="application/json"), "application/json", b"{}"),
        (Response(b"a", content_type="text/plain"), "text/plain", b"a"),
        (Response("a", headers={"content-type": "image/svg+xml"}), "image/svg+xml", b"a"),
        (Response(), None, b""),
        (Response(""), None, b""),
    ],
)
def test_content_types(response: Response, content_type: str | None, body: bytes) -> None:
    assert response.headers.get("Content-Type") == content_type
    assert response.body == body
    assert response.size == len(body)


def test_a_body_is_copied() -> None:
    data = bytearray(b"ab")
    response = Response(data)
    data[0] = 0
    assert response.body == b"ab"


def test_headers_as_mapping_or_pairs() -> None:
    assert Response(headers={"A": "1"}).headers == {"A": "1"}
    assert Response(headers=[("A", "1"), ("a", "2")]).headers.getall("A") == ["1", "2"]
    assert Response(headers=CIMultiDict([("A", "1"), ("A", "2")])).headers.getall("A") == ["1", "2"]


def test_headers_cannot_be_changed_past_the_check() -> None:
    with pytest.raises(TypeError):
        Response().headers["A"] = "b\r\n"  # type: ignore[index]


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", "a\0", "a\n"])
def test_header_names_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="not a header name"):
        Response(headers={name: "x"})


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\n", "a\r", "a\0", "\x1b", "\x7f", "€"])
def test_header_values_are_checked(value: str) -> None:
    for headers in ({"X": value}, [("X", value)]):
        with pytest.raises(ValueError, match="the header X has a value that HTTP does not allow"):
            Response(headers=headers)
    with pytest.raises(ValueError, match="the header Content-Type"):
        Response("a", content_type=value)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "CONNECTION"])
def test_framing_is_not_the_applications(name: str) -> None:
    with pytest.raises(ValueError, match="crest sets the header"):
        Response(headers={name: "1"})


def test_content_type_once() -> None:
    with pytest.raises(ValueError, match="Content-Type is given twice"):
        Response("a", headers={"content-TYPE": "a/b"}, content_type="a/b")


@pytest.mark.parametrize("status", [-1, 0, 101, 199, 600])
def test_the_status_is_checked(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        Response(status=status)


def test_the_body_is_checked() -> None:
    with pytest.raises(TypeError, match="not list"):
        Response([1])  # type: ignore[arg-type]


def test_handler_results() -> None:
    response = Response()
    assert to_response(response) is response
    assert to_response("a").headers["Content-Type"] == "text/html; charset=utf-8"
    for data in (b"a", bytearray(b"a"), memoryview(b"a")):
        assert to_response(data).body == b"a"


def test_a_dict_is_json() -> None:
    response = to_response({"é": [1, None, True], "</": "€"})
    assert response.headers["Content-Type"] == "application/json"
    assert response.body == '{"é":[1,null,true],"</":"€"}'.encode()
    assert json.loads(response.body) == {"é": [1, None, True], "</": "€"}


def test_what_is_no_json() -> None:
    with pytest.raises(TypeError):
        to_response({"a": object()})
    with pytest.raises(ValueError, match="JSON compliant"):
        to_response({"a": float("nan")})


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (1, "int"), ([1], "list"), (("a", 404), "tuple")])
def test_other_results_are_named(value: object, name: str) -> None:
    with pytest.raises(TypeError, match=f"returns str, bytes, dict or Response, not {name}$"):
        to_response(value)


# --- serialize


def test_serialize() -> None:
    response = Response("hé", 201, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=\xe9"), ("Date", "today")])
    assert serialize(response, head_only=False, keep_alive=True) == (
        b"HTTP/1.1 201 Created\r\n"
        b"Set-Cookie: a=1\r\n"
        b"Set-Cookie: b=\xe9\r\n"
        b"Date: today\r\n"
        b"Content-Type: text/html; charset=utf-8\r\n"
        b"Content-Length: 3\r\n"
        b"\r\n"
        b"h\xc3\xa9"
    )


def test_the_date_is_now_in_gmt() -> None:
    headers = parts(serialize(Response(), head_only=False, keep_alive=True))[1]
    assert headers["Date"].endswith(" GMT")
    assert parsedate_to_datetime(headers["Date"]).year >= 2024


def test_close_is_said() -> None:
    line, headers, content = parts(serialize(Response("a"), head_only=False, keep_alive=False))
    assert (line, headers["Connection"], content) == ("HTTP/1.1 200 OK", "close", b"a")
    assert "Connection" not in parts(serialize(Response("a"), head_only=False, keep_alive=True))[1]


def test_a_request_of_1_0_is_told_that_the_connection_is_kept() -> None:
    for keep_alive, connection in ((True, "keep-alive"), (False, "close")):
        data = serialize(Response("a"), head_only=False, keep_alive=keep_alive, version="1.0")
        line, headers, _ = parts(data)
        assert (line, headers["Connection"]) == ("HTTP/1.1 200 OK", connection)


def test_head_has_the_length_but_no_content() -> None:
    _, headers, content = parts(serialize(Response("abc"), head_only=True, keep_alive=True))
    assert (headers["Content-Length"], content) == ("3", b"")


def test_an_empty_body_has_a_length() -> None:
    assert parts(serialize(Response(status=404), head_only=False, keep_alive=True))[1]["Content-Length"] == "0"


@pytest.mark.parametrize("status", [HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED])
def test_what_has_no_content_has_no_length(status: HTTPStatus) -> None:
    line, headers, content = parts(serialize(Response("abc", status), head_only=False, keep_alive=True))
    assert line == f"HTTP/1.1 {status.value} {status.phrase}"
    assert "Content-Length" not in headers
    assert content == b""


def test_205_has_no_content_and_says_so() -> None:
    _, headers, content = parts(serialize(Response("abc", 205), head_only=False, keep_alive=True))
    assert (headers["Content-Length"], content) == ("0", b"")


def test_a_status_without_a_phrase() -> None:
    assert parts(serialize(Response(status=299), head_only=False, keep_alive=True))[0] == "HTTP/1.1 299 "


# --- errors


def test_an_error_is_plain_text() -> None:
    response = error_response(HandshakeError(400, "Host is missing", (("X-A", "1"),)))
    line, headers, content = parts(serialize(response, head_only=False, keep_alive=False))
    assert (line, content) == ("HTTP/1.1 400 Bad Request", b"Host is missing\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-A"] == "1"
    assert "Upgrade" not in headers


def test_426_names_the_upgrade() -> None:
    response = error_response(HandshakeError(426, "no", (("Sec-WebSocket-Version", "13"),)))
    for keep_alive, connection in ((True, "Upgrade"), (False, "Upgrade, close")):
        line, headers, _ = parts(serialize(response, head_only=False, keep_alive=keep_alive))
        assert line == "HTTP/1.1 426 Upgrade Required"
        assert headers["Sec-WebSocket-Version"] == "13"
        assert headers.getall("Upgrade") == ["websocket"]
        assert headers.getall("Connection") == [connection]


def test_431_and_505_have_phrases() -> None:
    for status, phrase in ((431, "Request Header Fields Too Large"), (505, "HTTP Version Not Supported")):
        data = serialize(error_response(HandshakeError(status, "no")), head_only=False, keep_alive=False)
        assert parts(data)[0] == f"HTTP/1.1 {status} {phrase}"


# --- FileResponse


class Memory(io.RawIOBase):
    """An unbuffered file in memory that counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.data.read(size)


def test_a_file_is_read_in_pieces() -> None:
    response = FileResponse(Memory(b"abcdefgh"), 7, "name")
    assert (response.size, response.body) == (7, b"")
    assert [response.read(3), response.read(3), response.read(3), response.read(3)] == [b"abc", b"def", b"g", b""]


def test_a_file_response_is_serialized_without_its_file() -> None:
    response = FileResponse(Memory(b"abc"), 3, "name", 206, {"X": "1"}, "text/css")
    line, headers, content = parts(serialize(response, head_only=False, keep_alive=True))
    assert (line, content) == ("HTTP/1.1 206 Partial Content", b"")
    assert (headers["Content-Length"], headers["Content-Type"], headers["X"]) == ("3", "text/css", "1")
    assert response.read() == b"abc"


def test_a_file_that_became_shorter_is_an_error() -> None:
    response = FileResponse(Memory(b"abc"), 5, "name")
    assert response.read() == b"abc"
    with pytest.raises(OSError, match="name became 2 bytes shorter"):
        response.read()


def test_close_closes_the_file() -> None:
    file = Memory(b"")
    response = FileResponse(file, 0, "name")
    response.close()
    response.close()
    assert file.closed
