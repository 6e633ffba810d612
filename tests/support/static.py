"""Asks `StaticFiles` for files of a directory, without a server."""

import asyncio
from pathlib import Path

from crest.http.messages import FileResponse, Request, Response
from crest.http.static import StaticFiles
from crest.wire.head import parse_head, path_of

MODIFIED = 1_600_000_000
MODIFIED_TEXT = "Sun, 13 Sep 2020 12:26:40 GMT"


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
