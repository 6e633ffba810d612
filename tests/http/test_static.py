"""crest.http.static: files of a directory, and nothing outside of it (RFC 9110 sections 13 and 14)."""

import asyncio
import errno
import io
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from support.client import GUARD

from crest.http.messages import FileResponse, Request, Response, serialize
from crest.http.static import StaticFiles
from crest.wire.head import parse_head, path_of

MODIFIED = 1_600_000_000
MODIFIED_TEXT = "Sun, 13 Sep 2020 12:26:40 GMT"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory "site" beside a secret."""
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "bare").mkdir()
    (site / ".git").mkdir()
    for name, data in {
        "site/index.html": b"<h1>home</h1>",
        "site/sub/index.html": b"<h1>sub</h1>",
        "site/a b.txt": b"0123456789",
        "site/caf\xe9.txt": b"cafe",
        "site/.env": b"secret",
        "site/.git/config": b"secret",
        "site/bare/x.css": b"",
        "secret.txt": b"secret",
        "site-secret.txt": b"secret",
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        os.utime(path, (MODIFIED, MODIFIED))
    return site


def get(root: Path, target: str, *headers: bytes, method: bytes = b"GET") -> tuple[Response, bytes]:
    """Ask for a target below "/static"; gives the response and its content."""
    line = method + b" " + target.encode() + b" HTTP/1.1"
    request = Request(parse_head(b"\r\n".join([line, *headers, b"", b""])), None)
    path = path_of(target)
    assert path.startswith("/static")
    return ask(root, request, path.removeprefix("/static").removeprefix("/"))


def ask(root: Path, request: Request, relative: str) -> tuple[Response, bytes]:
    response = asyncio.run(StaticFiles(root).respond(request, relative))
    if not isinstance(response, FileResponse):
        return response, response.body
    content = b""
    while piece := response.read(3):
        content += piece
    response.close()
    assert len(content) == response.size
    return response, content


def test_a_file(root: Path) -> None:
    response, content = get(root, "/static/a%20b.txt")
    assert (response.status, content) == (200, b"0123456789")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Last-Modified"] == MODIFIED_TEXT
    assert response.headers["ETag"] == f'"{MODIFIED * 10**9:x}-a"'
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_names_are_utf_8(root: Path) -> None:
    assert get(root, "/static/caf%C3%A9.txt")[1] == b"cafe"
    assert get(root, "/static/caf%E9.txt")[0].status == 404


def test_an_empty_file(root: Path) -> None:
    response, content = get(root, "/static/bare/x.css")
    assert (response.status, content, response.size) == (200, b"", 0)


def test_head_has_the_length_of_the_file(root: Path) -> None:
    response, _ = get(root, "/static/a%20b.txt", method=b"HEAD")
    assert b"\r\nContent-Length: 10\r\n" in serialize(response, head_only=True, keep_alive=True)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS"])
def test_other_methods_are_405(root: Path, method: bytes) -> None:
    response, _ = get(root, "/static/a%20b.txt", method=method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("target", "content"), [("/static/", b"<h1>home</h1>"), ("/static/sub/", b"<h1>sub</h1>")])
def test_a_directory_is_its_index(root: Path, target: str, content: bytes) -> None:
    response, found = get(root, target)
    assert (response.status, found, response.headers["Content-Type"]) == (200, content, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/static", "./static/"),
        ("/static?a=1", "./static/?a=1"),
        ("/static/sub", "./sub/"),
        ("/static/sub?x=%20#f", "./sub/?x=%20"),
        ("http://host/static/sub", "./sub/"),
    ],
)
def test_a_directory_without_its_slash_is_redirected(root: Path, target: str, location: str) -> None:
    request = Request(parse_head(b"GET " + target.encode() + b" HTTP/1.1\r\n\r\n"), None)
    response, _ = ask(root, request, path_of(target).removeprefix("/static").removeprefix("/"))
    assert (response.status, response.headers["Location"]) == (301, location)


def test_a_redirect_stays_on_this_host(root: Path) -> None:
    (root / "evil.example").mkdir()
    (root / "evil.example" / "sub").symlink_to(root / "sub")
    request = Request(parse_head(b"GET //evil.example/sub HTTP/1.1\r\n\r\n"), None)
    response, _ = ask(root, request, "evil.example/sub")
    assert (response.status, response.headers["Location"]) == (301, "./sub/")


@pytest.mark.parametrize(
    "target",
    [
        "/static/missing",
        "/static/bare",
        "/static/bare/",
        "/static/a%20b.txt/",
        "/static/a%20b.txt/x",
        "/static/sub//index.html",
        "/static//index.html",
        "/static/.env",
        "/static/.git/config",
        "/static/./index.html",
        "/static/sub/.",
        "/static/..",
        "/static/../secret.txt",
        "/static/../site/index.html",
        "/static/sub/../index.html",
        "/static/%2e%2e/secret.txt",
        "/static/%2E%2e%2fsecret.txt",
        "/static/..%2fsecret.txt",
        "/static/sub%2f..%2f..%2fsecret.txt",
        "/static/..%5csecret.txt",
        "/static/sub%5cindex.html",
        "/static/%2fetc/passwd",
        "/static//etc/passwd",
        "/static/../site-secret.txt",
        "/static/index.html%00",
        "/static/%00",
        "/static/" + "a" * 5000,
        "/static/" + "a/" * 3000,
    ],
)
def test_what_is_not_served_is_404(root: Path, target: str) -> None:
    response, content = get(root, target)
    assert (response.status, content) == (404, b"not found\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a backslash separates there")
def test_a_backslash_is_never_part_of_a_name(root: Path) -> None:
    (root / "a\\b.txt").write_bytes(b"x")
    assert get(root, "/static/a%5cb.txt")[0].status == 404


def test_a_symlink_inside_is_followed(root: Path) -> None:
    (root / "link.css").symlink_to("a b.txt")
    response, content = get(root, "/static/link.css")
    assert (response.status, content) == (200, b"0123456789")
    assert response.headers["Content-Type"] == "text/css; charset=utf-8"


def test_a_hidden_file_is_not_served_by_another_name(root: Path) -> None:
    """Nor what is in a hidden directory, nor by way of a directory that has a name to serve."""
    (root / "env").symlink_to(".env")
    (root / "config.txt").symlink_to(".git/config")
    (root / "git").symlink_to(".git")
    (root / "top").symlink_to(".")
    (root / "bare" / "index.html").symlink_to("../.env")
    for path in ("env", "config.txt", "git/config", "git/", "top/env", "top/git/config", "bare/", "bare"):
        assert get(root, f"/static/{path}")[0].status == 404, path
    assert get(root, "/static/top/index.html")[1] == b"<h1>home</h1>"


def test_a_directory_below_a_hidden_one_may_be_served(root: Path) -> None:
    (root / ".git" / "site").mkdir()
    (root / ".git" / "site" / "a.txt").write_bytes(b"x")
    assert get(root / ".git" / "site", "/static/a.txt")[1] == b"x"


@pytest.mark.skipif(os.name == "nt", reason="the names are none there")
@pytest.mark.parametrize(
    "name",
    ["HTACCE~1", "a~1.txt", "a.txt::$DATA", "a.txt:b", "C:a", "con", "CON.txt", "nul.tar.gz", "COM1", "lpt\u00b9.x"]
    + ["aux .txt", "CONIN$", "a.txt.", "a.txt ", "a...", "a?b", "a*", "a|b", "<a>", 'a"', "a\x01"],
)
def test_names_that_mean_something_else_on_windows(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / name).write_bytes(b"x")
    assert get(root, f"/static/{quote(name)}")[1] == b"x"
    monkeypatch.setattr("crest.http.static.WINDOWS", True)
    assert get(root, f"/static/{quote(name)}")[0].status == 404
    (root / "link").symlink_to(name)
    assert get(root, "/static/link")[0].status == 404


@pytest.mark.parametrize("name", ["a~.txt", "a~b1", "console.txt", "com.txt", "com10", "a.con", "conin", "a b.c d"])
def test_names_that_are_names_on_windows_too(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crest.http.static.WINDOWS", True)
    (root / name).write_bytes(b"x")
    assert get(root, f"/static/{quote(name)}")[1] == b"x"


@pytest.mark.parametrize("outside", ["../secret.txt", "../site-secret.txt", "/etc/passwd"])
def test_a_symlink_that_leaves_is_404(root: Path, outside: str) -> None:
    (root / "link").symlink_to(outside)
    assert get(root, "/static/link")[0].status == 404


def test_a_directory_symlink_that_leaves_is_404(root: Path) -> None:
    (root / "up").symlink_to("..")
    assert get(root, "/static/up/secret.txt")[0].status == 404
    assert get(root, "/static/up/site/index.html")[1] == b"<h1>home</h1>"
    (root / "bare" / "index.html").symlink_to("../../secret.txt")
    assert get(root, "/static/bare/")[0].status == 404
    assert get(root, "/static/bare")[0].status == 404


def test_a_symlink_loop_is_404(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    assert get(root, "/static/loop")[0].status == 404


def test_the_directory_itself_may_be_a_symlink(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert get(link, "/static/index.html")[0].status == 200


@pytest.mark.skipif(sys.platform == "win32", reason="there are no FIFOs")
def test_a_fifo_neither_blocks_nor_is_served(root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert get(root, "/static/fifo")[0].status == 404


def test_an_index_that_is_a_directory_is_404(root: Path) -> None:
    (root / "bare" / "index.html").mkdir()
    assert get(root, "/static/bare/")[0].status == 404
    assert get(root, "/static/bare")[0].status == 404


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_no_access_is_404_and_other_errors_are_the_systems(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("crest.http.static.os.open", refuse)
    if number == errno.EACCES:
        assert get(root, "/static/index.html")[0].status == 404
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            get(root, "/static/index.html")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("x.html", "text/html; charset=utf-8"),
        ("x.js", "text/javascript; charset=utf-8"),
        ("x.mjs", "text/javascript; charset=utf-8"),
        ("x.json", "application/json"),
        ("x.wasm", "application/wasm"),
        ("x.svg", "image/svg+xml"),
        ("x.PNG", "image/png"),
        ("x.webp", "image/webp"),
        ("x.woff2", "font/woff2"),
        ("x.mp4", "video/mp4"),
        ("x.tar.gz", "application/gzip"),
        ("x.css.gz", "application/gzip"),
        ("x.txt.Z", "application/octet-stream"),
        ("x.unknown", "application/octet-stream"),
        ("README", "application/octet-stream"),
    ],
)
def test_content_types(root: Path, name: str, content_type: str) -> None:
    (root / name).write_bytes(b"x")
    assert get(root, f"/static/{name}")[0].headers["Content-Type"] == content_type


ETAG = f'"{MODIFIED * 10**9:x}-a"'.encode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"If-None-Match: " + ETAG, 304),
        (b"If-None-Match: W/" + ETAG, 304),
        (b'If-None-Match: "x", ' + ETAG, 304),
        (b"If-None-Match: *", 304),
        (b'If-None-Match: "x"', 200),
        (b"If-None-Match: " + ETAG.strip(b'"'), 200),
        (b"If-None-Match:", 200),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT", 304),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:41 GMT", 304),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:39 GMT", 200),
        (b"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 -0000", 304),
        (b"If-Modified-Since: Sunday, 13-Sep-20 12:26:40 GMT", 304),
        (b"If-Modified-Since: yesterday", 200),
        (b"If-Modified-Since:", 200),
        (b"If-Modified-Since: Sun, 99 Sep 99999 12:26:40 GMT", 200),
        (b"If-Modified-Since: \xff", 200),
        (b"If-Modified-Since: Sun, 13 Sep 2_030 12:26:40 GMT", 200),
    ],
)
def test_conditional_requests(root: Path, header: bytes, status: int) -> None:
    response, content = get(root, "/static/a%20b.txt", header)
    assert response.status == status
    assert response.headers["ETag"].encode() == ETAG
    assert content == (b"" if status == 304 else b"0123456789")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no tzset")
@pytest.mark.parametrize("zone", ["UTC+5", "UTC-5"])
def test_dates_are_gmt_wherever_the_server_is(root: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        for second, status in (("39", 200), ("40", 304)):
            header = f"If-Modified-Since: Sun, 13 Sep 2020 12:26:{second} -0000".encode()
            response, _ = get(root, "/static/a%20b.txt", header)
            assert (response.status, response.headers["Last-Modified"]) == (status, MODIFIED_TEXT)
    time.tzset()


def test_if_none_match_counts_before_the_date(root: Path) -> None:
    response, _ = get(
        root, "/static/a%20b.txt", b'If-None-Match: "x"', b"If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT"
    )
    assert response.status == 200


def test_the_etag_follows_the_file(root: Path) -> None:
    (root / "a b.txt").write_bytes(b"9876543210")
    assert get(root, "/static/a%20b.txt", b"If-None-Match: " + ETAG)[0].status == 200


@pytest.mark.parametrize(
    ("value", "content", "told"),
    [
        (b"bytes=0-3", b"0123", "bytes 0-3/10"),
        (b"bytes=4-", b"456789", "bytes 4-9/10"),
        (b"bytes=-3", b"789", "bytes 7-9/10"),
        (b"bytes=-100", b"0123456789", "bytes 0-9/10"),
        (b"bytes=9-9", b"9", "bytes 9-9/10"),
        (b"bytes=5-999999999999999999", b"56789", "bytes 5-9/10"),
        (b"Bytes= 1-2 ", b"12", "bytes 1-2/10"),
    ],
)
def test_one_range_is_206(root: Path, value: bytes, content: bytes, told: str) -> None:
    response, found = get(root, "/static/a%20b.txt", b"Range: " + value)
    assert (response.status, found, response.headers["Content-Range"]) == (206, content, told)


@pytest.mark.parametrize("value", [b"bytes=10-", b"bytes=10-11", b"bytes=-0", b"bytes=999999-"])
def test_a_range_behind_the_end_is_416(root: Path, value: bytes) -> None:
    response, _ = get(root, "/static/a%20b.txt", b"Range: " + value)
    assert (response.status, response.headers["Content-Range"]) == (416, "bytes */10")


def test_a_range_of_an_empty_file_is_416(root: Path) -> None:
    assert get(root, "/static/bare/x.css", b"Range: bytes=0-")[0].status == 416


@pytest.mark.parametrize(
    "value",
    [
        b"bytes=0-1,3-4", b"bytes=3-1", b"bytes=-", b"bytes=", b"items=0-1", b"bytes=a-b", b"bytes=+1-2", b"bytes=1 -2",
        b"bytes=\xb2-", b"bytes=0-" + b"9" * 5000, b"bytes=" + b" " * 10_000 + b"x", b"",
    ],
)  # fmt: skip
def test_other_ranges_are_ignored(root: Path, value: bytes) -> None:
    response, content = get(root, "/static/a%20b.txt", b"Range: " + value)
    assert (response.status, content) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("condition", "status"),
    [(ETAG, 206), (MODIFIED_TEXT.encode(), 206), (b'"x"', 200), (b"W/" + ETAG, 200), (b"Sun, 13 Sep 2020", 200)],
)
def test_if_range(root: Path, condition: bytes, status: int) -> None:
    response, _ = get(root, "/static/a%20b.txt", b"Range: bytes=0-1", b"If-Range: " + condition)
    assert response.status == status


def test_head_ignores_ranges(root: Path) -> None:
    assert get(root, "/static/a%20b.txt", b"Range: bytes=0-1", method=b"HEAD")[0].status == 200


@pytest.mark.parametrize("name", ["missing", "a b.txt"])
def test_what_is_no_directory_is_an_error(root: Path, name: str) -> None:
    for directory in (root / name, str(root / name)):
        with pytest.raises(ValueError, match="not a directory: "):
            StaticFiles(directory)


def test_a_file_that_nobody_waits_for_is_closed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has gone while a thread opens the file."""
    files, begun, go_on, opened = StaticFiles(root), threading.Event(), threading.Event(), list[FileResponse]()
    respond = files._respond

    def slowly(asked: Request, relative: str) -> Response:
        begun.set()
        go_on.wait(GUARD)
        response = respond(asked, relative)
        assert isinstance(response, FileResponse)
        opened.append(response)
        return response

    monkeypatch.setattr(files, "_respond", slowly)

    async def leave() -> None:
        asked = Request(parse_head(b"GET /static/a%20b.txt HTTP/1.1\r\n\r\n"), None)
        task = asyncio.create_task(files.respond(asked, "a b.txt"))
        await asyncio.to_thread(begun.wait, GUARD)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go_on.set()
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(leave())
    (response,) = opened
    with pytest.raises(ValueError, match="closed"):
        response.read()


def test_a_file_without_a_response_is_closed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, opened = StaticFiles(root), list[io.FileIO]()

    def fail(asked: Request, file: io.FileIO, *names: str) -> Response:
        opened.append(file)
        raise MemoryError

    monkeypatch.setattr(files, "_answer", fail)
    asked = Request(parse_head(b"GET /static/a%20b.txt HTTP/1.1\r\n\r\n"), None)
    with pytest.raises(MemoryError):
        asyncio.run(files.respond(asked, "a b.txt"))
    assert [file.closed for file in opened] == [True]
