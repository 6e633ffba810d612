"""crest.log: no text of a peer, and none of an exception, makes a line of its own or a colour in the log."""

import io
import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import TEXT, close_frame, frame, handshake, request, tcp, upgraded
from support.events import Events, on_each_loop

import crest
from crest import App, Reject, WebSocketServer
from crest.log import CONTINUED, escaped, logger, safe_traceback

FOREIGN = {
    "\n": r"\n",
    "\r": r"\r",
    "\x1b[31m": r"\x1b[31m",
    "\x00\x7f\x9b": r"\x00\x7f\x9b",
    "\x85": r"\x85",
    "\u2028\u2029": r"\u2028\u2029",
    "\u202e\u2066\u200f": r"\u202e\u2066\u200f",
    "\ud800": r"\ud800",
    "\U000e0001": r"\U000e0001",
    "caf\xe9 \u4e16 \U0001f600 \\ %s": "caf\xe9 \u4e16 \U0001f600 \\ %s",
}
EVIL = "x\n2026-01-01 INFO forged\r\x1b[31m\u2028\u202e"
SAFE = r"x\n2026-01-01 INFO forged\r\x1b[31m\u2028\u202e"


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """What a handler writes, as `App.run` sets it up."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("text", FOREIGN)
def test_a_line_stays_a_line(text: str, output: io.StringIO) -> None:
    logger.info("Said %s, %d times", text, 2)
    logger.info("Raised: %s", ValueError(text))
    logger.info("%s", {text})  # as repr writes it, which is safe already
    said, raised, shown = output.getvalue().removesuffix("\n").split("\n")
    assert said == f"INFO Said {FOREIGN[text]}, 2 times"
    assert raised == f"INFO Raised: {FOREIGN[text]}"
    assert shown.isprintable()
    assert escaped(text) == FOREIGN[text]


def test_a_line_that_is_safe_keeps_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """Programs group lines by them."""
    logger.error("%s: %d", "page", 500)
    (record,) = caplog.records
    assert (record.msg, record.args) == ("%s: %d", ("page", 500))


def test_what_can_not_be_formatted_is_the_handlers_business(
    output: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", False)  # pytest's own handler raises
    logger.error("%d", "no number")
    assert output.getvalue() == ""
    assert "Logging error" in capsys.readouterr().err


def test_a_text_that_raises_what_no_handler_catches(output: io.StringIO) -> None:
    class Stubborn:
        def __str__(self) -> str:
            raise SystemExit("no")

    logger.info("before %s", Stubborn())
    assert output.getvalue() == "INFO (a line whose text raised SystemExit)\n"


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_traceback_has_no_line_of_a_peers() -> None:
    inner = ValueError(EVIL)
    inner.add_note("note\nforged")
    outer = raised(RuntimeError("outer\nforged"))
    outer.__cause__ = raised(ExceptionGroup("group\nforged", [raised(inner), raised(OSError(1, "io\nforged"))]))
    text = safe_traceback(outer)
    assert text is not None
    assert not any(line.startswith(("forged", "2026")) for line in text.split("\n"))
    assert f"RuntimeError: outer{CONTINUED}forged" in text
    assert r"INFO forged\r" in text and r"\x1b[31m\u2028" in text and r"\u202e" in text
    assert text.replace("\n", "").isprintable()


def test_a_traceback_without_foreign_text_is_left_to_the_formatter() -> None:
    cycle = raised(ValueError("plain"))
    cycle.__cause__ = raised(KeyError(EVIL))  # whose text is a repr
    cycle.__cause__.__context__ = cycle
    assert safe_traceback(cycle) is None


def test_an_exception_without_a_text(output: io.StringIO) -> None:
    class Mute(Exception):
        __notes__ = 1  # no list

        def __str__(self) -> str:
            raise ValueError(EVIL)

    logger.error("It failed", exc_info=raised(Mute()))
    assert output.getvalue().startswith("ERROR It failed\nTraceback")


def test_an_error_is_written_with_its_traceback(output: io.StringIO) -> None:
    error = raised(ValueError("a\nb"))
    logger.error("It failed", exc_info=error)
    written = output.getvalue()
    assert written.startswith("ERROR It failed\nTraceback (most recent call last):\n")
    assert written.endswith(f"\nValueError: a{CONTINUED}b\n")
    assert written.count("\n") == 1 + "".join(traceback.format_exception(error)).count("\n")


@pytest.mark.parametrize("kind", ["handler", "on_upgrade", "page"])
@on_each_loop
async def test_what_a_peer_says_and_an_exception_repeats(kind: str, output: io.StringIO) -> None:
    app, ws, closed = App(), WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))

    @ws.on_message
    def received(conn: crest.WebSocketConnection, message: str) -> None:
        raise ValueError(message)

    @app.get("/page")
    def page(request: crest.Request) -> str:
        raise ValueError(request.query["x"])

    evil = "x%0A2026-01-01%20INFO%20forged%0D%1B[31m%E2%80%A8%E2%80%AE"
    async with app.listening() as server:
        if kind == "handler":
            async with upgraded(server) as client:
                await client.send(frame(TEXT, EVIL))
                await client.until_close()
                await client.send(close_frame(1011))
                await closed.reach(1)
        else:
            if kind == "on_upgrade":
                ws.on_upgrade(lambda request: (_ for _ in ()).throw(Reject(401, request.query["x"])))
            async with tcp(server) as client:
                await client.send(handshake(f"/ws?x={evil}") if kind == "on_upgrade" else request(f"/page?x={evil}"))
                assert (await client.answer()).status >= 400
    lines = output.getvalue().splitlines()
    assert not any(line.startswith(("2026", "INFO forged")) for line in lines)
    assert all(line.isprintable() for line in lines)
    if kind != "page":  # whose line has the target, as it was sent
        assert any(SAFE in line for line in lines)


@pytest.mark.skipif(
    not any(Path(crest.__file__).parent.rglob("*.pyx")),
    reason="needs the source tree; this tests an installed package",
)
def test_every_line_of_crest_goes_through_it() -> None:
    sources = [path for kind in ("*.py", "*.pyx") for path in Path(crest.__file__).parent.rglob(kind)]
    named = {(path.name, name) for path in sources for name in re.findall(r"getLogger\((.*?)\)", path.read_text())}
    assert ("log.py", '"crest"') in named and ("inbox.pyx", '"crest"') in named
    others = {name for path, name in named if (path, name) != ("uvicorn.py", '"uvicorn.error"')}  # it escapes by itself
    assert others <= {'"crest"', ""}
