"""The plain HTTP of one app: which handler or file answers a request for a path."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from crest.http.messages import Request, Response, to_response
from crest.http.static import StaticFiles
from crest.log import logger

Raised = Callable[[BaseException], None]
"""Is told the exception that a handler has raised, before anything else is done about it."""


class Pages:
    """Handlers of paths, and directories of files below prefixes."""

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[[Request], Any]] = {}
        self._files: list[tuple[str, StaticFiles]] = []

    def add(self, path: str, handler: Callable[[Request], Any]) -> None:
        """Have a handler respond to requests for a path, in place of another that did."""
        self._handlers[path] = handler

    def add_files(self, prefix: str, directory: str | os.PathLike[str]) -> None:
        """Serve the files below a directory; of several prefixes of a path the longest counts.

        Raises:
            ValueError: `directory` is no directory.
        """
        self._files.append((prefix.rstrip("/") + "/", StaticFiles(directory)))
        self._files.sort(key=lambda each: -len(each[0]))

    def has(self, path: str) -> bool:
        """True if a handler responds to requests for this path."""
        return path in self._handlers

    def respond(self, request: Request, path: str, raised: Raised) -> Response | Awaitable[Response]:
        """Respond to a request, or begin to."""
        handler = self._handlers.get(path)
        if handler is not None:
            if request.method not in ("GET", "HEAD"):
                return Response("only GET and HEAD are possible here\n", 405, {"Allow": "GET, HEAD"}, "text/plain")
            try:
                result = handler(request)
                if isawaitable(result):
                    return _await_response(request, result, raised)
                return to_response(result)
            except BaseException as error:  # SystemExit, too: no page stops the server
                raised(error)
                return _failed(request, error)
        for prefix, files in self._files:
            if path.startswith(prefix):
                return _await_response(request, files.respond(request, path.removeprefix(prefix)), raised)
            if path == prefix[:-1]:
                query = "?" + request.query_string if request.query_string else ""
                return Response("", 308, {"Location": request.raw_path + "/" + query})
        return Response("not found\n", 404, content_type="text/plain")


async def _await_response(request: Request, result: Awaitable[object], raised: Raised) -> Response:
    try:
        return to_response(await result)
    except BaseException as error:
        raised(error)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the client has gone, or the loop
        return _failed(request, error)


def _failed(request: Request, error: BaseException) -> Response:
    fields = {"client": request.client, "path": request.path}
    logger.error("%s %s: the handler raised", request.method, request.target, exc_info=error, extra=fields)
    return Response("internal server error\n", 500, content_type="text/plain")
