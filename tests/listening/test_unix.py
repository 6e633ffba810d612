"""crest.listening.unix: the file of a Unix socket, from what was there before to its end."""

import asyncio
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import Client, request
from support.events import Events, on_each_loop

from crest import App, ListenError, Request, WebSocketServer
from crest.listening.unix import listen_unix

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


@pytest.fixture
def path() -> Iterator[Path]:
    """Short enough for a Unix socket, on macOS too."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "s"


def refusal(path: Path | str) -> str:
    with pytest.raises(ListenError) as raised:
        listen_unix(str(path), None)
    return str(raised.value)


@on_each_loop
async def test_websockets_and_pages_over_a_unix_socket(path: Path, direct: bool) -> None:
    app, ws, events = App(), WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.remote_address, conn.request.client, conn.request.scheme))

    @app.get("/page")
    def page(request: Request) -> str:
        return f"{request.client} {request.scheme}"

    async with app.listening(unix=path, direct=direct) as server:
        assert server.urls == [f"unix:{path}"]
        assert server.address == ("", 0)
        client = Client(*await asyncio.open_unix_connection(str(path)))
        await client.send(request("/page"))
        assert (await client.answer()).body == b"None http"
        await client.upgrade()
        assert await events.reach(1) == [(None, None, "http")]
        await client.close()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_its_mode(mode: int, path: Path) -> None:
    sock, file = listen_unix(str(path), mode)
    with sock:
        assert stat.S_IMODE(path.stat().st_mode) == mode
    file.remove()
    assert not path.exists()


def test_without_a_mode_it_is_for_the_umask(path: Path) -> None:
    before = os.umask(0o027)
    try:
        sock, _ = listen_unix(str(path), None)
    finally:
        os.umask(before)
    with sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    assert path.is_socket()
    sock, _ = listen_unix(str(path), None)
    with sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_somebody_listens_at_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        text = f"cannot listen on unix:{path}: another server listens there"
        assert refusal(path) == text
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            for client in (first, second):  # its backlog is full now
                client.setblocking(False)
                client.connect_ex(str(path))
            assert refusal(path) == text
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(kind: str, path: Path) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("elsewhere")
    assert refusal(path) == f"cannot listen on unix:{path}: something is there that is no socket"
    assert os.path.lexists(path)


def test_paths_that_can_not_be(path: Path) -> None:
    absent = path / "absent" / "s"
    assert refusal(absent) == f"cannot listen on unix:{absent}: No such file or directory"
    assert "AF_UNIX path too long" in refusal("/tmp/" + "x" * 200)
    assert "null" in refusal("/tmp/\0")


def test_a_socket_that_was_made_and_can_not_be_used_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("crest.listening.unix.os.chmod", refused)
    with pytest.raises(ListenError, match="Operation not permitted"):
        listen_unix(str(path), 0o600)
    assert not os.path.lexists(path)


def test_a_system_without_unix_sockets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert refusal(path) == f"cannot listen on unix:{path}: this system has no Unix sockets for Python"


def test_the_file_of_a_successor_is_left_alone(path: Path) -> None:
    sock, file = listen_unix(str(path), None)
    with sock:
        path.rename(path.with_name("old"))
        successor, own = listen_unix(str(path), None)
        with successor:
            file.remove()
            assert path.is_socket()
            own.remove()
            assert not path.exists()
            own.remove()
