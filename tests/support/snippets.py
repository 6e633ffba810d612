"""What runs a snippet of the documents: the names that fragments use, and a stage for its check.

In a module of tests: `check = Checks()`, `@check(key)` at each check, and below them `test_snippet = check.test()`.
`App.run` only records how it was called: the app is then served on a free port, to a client that is not crest's.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from crest import App, WebSocketServer
from support.client import GUARD, Answer, Server, connect, handshake, request, tcp
from support.documents import ROOT, SNIPPETS, Fence

Names = dict[str, Any]
Scenario = Callable[[Server], Awaitable[None]]


def prelude() -> Names:
    """The names that fragments use."""
    app, ws = App(), WebSocketServer()
    app.mount("/ws", ws)
    return {"app": app, "ws": ws}


class Stage:
    """One snippet, and what its check needs to run it.

    Attributes:
        runs: The calls of `App.run`: app, host and port.
        listens: What the last of them said of where to listen, as arguments of `App.listening`.
    """

    def __init__(
        self, snippet: Fence, monkeypatch: pytest.MonkeyPatch, output: Callable[[], str], folder: Path
    ) -> None:
        self.snippet = snippet
        self.monkeypatch = monkeypatch
        self.output = output
        self.folder = folder
        self.runs: list[tuple[App, object, object]] = []
        self.listens: dict[str, Any] = {}
        self._run = inspect.signature(App.run)
        monkeypatch.setattr(App, "run", lambda *args, **options: self._record(*args, **options))

    def _record(self, *args: Any, **options: Any) -> None:
        call = self._run.bind(*args, **options)
        self.listens = {name: value for name, value in call.arguments.items() if name not in ("self", "host", "port")}
        call.apply_defaults()
        self.runs.append((call.arguments["self"], call.arguments["host"], call.arguments["port"]))

    def execute(self, names: Names | None = None) -> Names:
        """Run the snippet, with these names; returns all names afterwards. Tracebacks show the document's lines."""
        names = {"__name__": "__main__", **(names or {})}
        source = "\n" * (self.snippet.line - 1) + self.snippet.code
        exec(compile(source, str(ROOT / self.snippet.document), "exec"), names)
        return names

    def fragment(self) -> Names:
        """Run the snippet as a fragment."""
        return self.execute(prelude())

    def serve(self, app: App, scenario: Scenario) -> None:
        """Play a scenario against the app."""

        async def main() -> None:
            async with asyncio.timeout(3 * GUARD), app.listening("127.0.0.1", 0) as server:
                await scenario(server)

        asyncio.run(main())

    def answers(self, app: App, message: str | bytes, answer: str | bytes) -> None:
        """Serve, and hold the answer to a client's message against what is expected."""

        async def scenario(server: Server) -> None:
            async with connect(server) as client:
                await client.send(message)
                assert await client.recv() == answer

        self.serve(app, scenario)


Check = Callable[[Stage], None]


class Checks:
    """The checks of snippets that stand in one module of tests."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[Check, int]] = {}

    @property
    def keys(self) -> list[str]:
        return list(self._checks)

    def __call__(self, key: str, *, logged: int = 0) -> Callable[[Check], Check]:
        """Make a function the check of a snippet, whose handlers raise so often."""

        def register(function: Check) -> Check:
            assert key not in self._checks, key
            self._checks[key] = function, logged
            return function

        return register

    def test(self) -> Callable[..., None]:
        """Return the test of these snippets, one for each key."""

        @pytest.mark.parametrize("key", self.keys)
        def test_snippet(
            key: str,
            monkeypatch: pytest.MonkeyPatch,
            capsys: pytest.CaptureFixture[str],
            caplog: pytest.LogCaptureFixture,
            tmp_path: Path,
        ) -> None:
            check, logged = self._checks[key]
            check(Stage(SNIPPETS[key], monkeypatch, lambda: capsys.readouterr().out, tmp_path))
            errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert len(errors) == logged, errors

        return test_snippet


async def close_of(client: Any) -> tuple[int, str]:
    """Code and reason of the close frame that comes next."""
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def refusal(server: Server, headers: dict[str, str | None] | None = None, path: str = "/ws") -> tuple[int, bytes]:
    """Status and body that an upgrade request gets."""
    async with tcp(server) as client:
        await client.send(handshake(path, headers))
        answer = await client.answer()
        return answer.status, answer.body


async def get(server: Server, path: str) -> Answer:
    async with tcp(server) as client:
        await client.send(request(path))
        return await client.answer()


def localhost(server: Server) -> str:
    """A flag for the browser: what the documents call localhost:8000 is this server."""
    return f"--host-resolver-rules=MAP localhost:8000 127.0.0.1:{server.port}"


def add_page(app: App, script: str) -> None:
    app.get("/client")(lambda request: f"<!doctype html><title>client</title><script>{script}</script>")
