"""What the tests share: the event loops and the two ways of output that they run with, and how a test runs a coroutine.

What tests import from each other is in support/ (`from support import reference`), for every folder of tests.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import pytest

from crest import attachment

T = TypeVar("T")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, T]], T]

TIMEOUT = 60.0
"""Seconds for the coroutine of one test; what hangs in compiled code is left to `faulthandler_timeout`."""

sys.path.insert(0, str(Path(__file__).parent))

from support.certificates import Pair  # noqa: E402
from support.eager import EVERYWHERE, make_every_loop_eager  # noqa: E402

if EVERYWHERE:
    make_every_loop_eager()

MOUNTED = os.environ.get("CREST_TESTS_MOUNTED") == "1"
if MOUNTED:
    from support.mounting import EXCEPTIONS, mount_every_app

    mount_every_app()

UVLOOP = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed (there is none for Windows)")


def pytest_report_header() -> str:
    return f"tasks: {'eager' if EVERYWHERE else 'as asyncio makes them'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for each in items if MOUNTED else ():
        reason = EXCEPTIONS.get(getattr(each, "originalname", each.name))
        if reason is not None:
            each.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Each test that ran a loop collects garbage, see `run`: not among ten thousand tests, which took a second each."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps and servers of other tests do not count, whatever has become of them."""
    monkeypatch.setattr(attachment, "_apps", WeakValueDictionary())
    monkeypatch.setattr(attachment, "_unmounted", WeakValueDictionary())
    monkeypatch.setattr(attachment, "_homeless", [])
    monkeypatch.setattr(attachment, "_collect", gc.collect)  # not what is frozen: it is no part of this test


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=UVLOOP)])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    """Makes an event loop: asyncio's own, and uvloop's."""
    if request.param == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


@pytest.fixture(params=[True, False], ids=["direct", "transport"])
def direct(request: pytest.FixtureRequest) -> bool:
    """For `App.listening(direct=...)`: transports of crest's own, and the event loop's."""
    return bool(request.param)


@pytest.fixture
def run(loop_factory: LoopFactory) -> Run[Any]:
    """Runs a coroutine on a loop of its own and returns its result; `run(main())`.

    The test fails when the coroutine takes longer than TIMEOUT, and when anything else went wrong on the loop: an
    exception in a callback, or one of a task that nobody awaited.
    """

    def run(main: Coroutine[Any, Any, T]) -> T:
        unhandled: list[dict[str, Any]] = []

        async def guarded() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            async with asyncio.timeout(TIMEOUT):
                return await main

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(guarded())
            gc.collect()  # a task whose exception was never retrieved says so when it is collected
        if unhandled:
            messages = "; ".join(str(context["message"]) for context in unhandled)
            causes = [context["exception"] for context in unhandled if isinstance(context.get("exception"), Exception)]
            pytest.fail(f"the loop's exception handler was called: {messages}; {causes!r}")
        return result

    return run


@pytest.fixture
def alone() -> Iterator[None]:
    """For tests in which allocations fail, as they do in all threads: this one keeps the GIL until it waits.

    The thread of pytest-xdist would lose what it is told: then tests do not run, or the processes wait for each other.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    time.sleep(0)  # a thread that waits for the GIL already, for a shorter time, has it now
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate that no test changes."""
    return Pair(tmp_path_factory.mktemp("tls"))
