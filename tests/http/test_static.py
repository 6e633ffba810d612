"""crest.http.static: files of a directory, and nothing outside of it."""

import asyncio
import errno
import io
import os
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from support.client import GUARD
from support.static import MODIFIED, MODIFIED_TEXT, ask, get

from crest.http.messages import FileResponse, Request, Response, serialize
from crest.http.static import StaticFiles
from crest.wire.head import parse_head, path_of


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
