"""crest.app: static files beside the WebSocket and the pages, over real sockets."""

from pathlib import Path

import pytest
from support.client import handshake, request, tcp
from support.events import on_each_loop
from support.pages import get

from crest import App, WebSocketServer


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text("<p>page</p>")
    (tmp_path / "index.html").write_text("<p>index</p>")
    (tmp_path / "large.bin").write_bytes(bytes(3_000_000))
    return tmp_path


@on_each_loop
async def test_static_serves_the_files_of_a_directory(files: Path) -> None:
    app = App()
    app.static("/files", files)
    async with app.listening() as server, tcp(server) as client:
        for path, status, body in [
            ("/files/page.html", 200, b"<p>page</p>"),
            ("/files/", 200, b"<p>index</p>"),
            ("/files/nothing", 404, None),
            ("/files/../secret", 404, None),
            ("/page.html", 404, None),
            ("/files/large.bin", 200, bytes(3_000_000)),
        ]:
            await client.send(request(path))
            answer = await client.answer()
            assert answer.status == status, path
            assert body is None or answer.body == body


@on_each_loop
async def test_the_prefix_without_its_slash_leads_to_the_one_with_it(files: Path) -> None:
    app = App()
    app.static("/files", files)
    answer = await get(app, "/files?x=1")
    assert (answer.status, answer.headers["location"]) == (308, "/files/?x=1")


@on_each_loop
async def test_pages_and_websockets_go_before_static_files(files: Path) -> None:
    app, ws = App(), WebSocketServer("/ws")
    app.static("/", files)
    app.get("/page.html")(lambda request: "handler")
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/page.html"), request("/index.html"), handshake(ws.path))
        assert (await client.answer()).body == b"handler"
        assert (await client.answer()).body == b"<p>index</p>"
        assert (await client.answer()).status == 101


@on_each_loop
async def test_the_longest_prefix_wins(files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "page.html").write_text("other")
    app = App()
    app.static("/", files)
    app.static("/deep/er", other)
    assert (await get(app, "/deep/er/page.html")).body == b"other"


@on_each_loop
async def test_a_head_request_for_a_file_has_no_content(files: Path) -> None:
    app = App()
    app.static("/", files)
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/page.html", method="HEAD") + request("/page.html"))
        assert (await client.answer(head_only=True)).headers["content-length"] == "11"
        assert (await client.answer()).body == b"<p>page</p>"
