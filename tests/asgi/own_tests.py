"""uvicorn's own WebSocket tests, with crest's class in place of its own: `make uvicorn`.

Usage: own_tests.py [RELEASE...]   by default the oldest release that takes crest's class, and the newest that was tried

They are no part of what uvicorn installs. So its source distributions are fetched from the package index. They run in a
venv of their own. A test that fails is a failure here, but for those of `EXCEPTIONS`; one among those that passes is a
failure, too. `MOCKED` are not run: most of them would wait for ever.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VENV: Final = ROOT / ".venv-uvicorn"
FOLDER: Final = ROOT / "build" / "uvicorn"
RELEASES: Final = ("0.36.0", "0.54.0")

NEEDS: Final = (
    *("anyio", "a2wsgi", "cryptography", "httptools", "httpx", "httpx2", "multidict", "pytest", "pytest-mock"),
    *("pytest-timeout", "python-dotenv", "trustme", "typing-extensions", "uvloop", "watchfiles", "websockets"),
    *("wsproto", "click", "h11", "zttp"),
)

MOCKED: Final = (
    "test_send_respects_write_backpressure",
    "test_close_waits_for_the_peer_close_frame",
    "test_close_resumes_reads_paused_on_an_unconsumed_message",
    "test_data_frame_while_closing_does_not_pause_reads",
    "test_data_frame_and_peer_close_frame_in_one_read",
    "test_ping_while_closing",
    "test_close_gives_up_when_the_peer_never_replies",
    "test_connection_lost_cancels_the_pending_close_timer",
    "test_shutdown_while_the_close_reply_is_pending",
    "test_send_after_peer_close_raises_client_disconnected",
    "test_connection_lost_unblocks_paused_send",
)
"""Tests that drive uvicorn's own class by a stand-in for a transport, which no event loop has."""

CLASS: Final = "asks for uvicorn's own class by name, and for its attributes"
EXCEPTIONS: Final = {
    "test_server_keepalive_ping_pong": CLASS,
    "test_server_keepalive_disabled": CLASS,
    "test_server_keepalive_ping_timeout": "the close frame's reason is another text",
}


def make_venv(releases: Sequence[str]) -> str:
    """Make the venv, and return its Python; fetch the releases."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [python, "-m", "pip", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *NEEDS], check=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    fetch = [*pip, "download", "--no-binary", ":all:", "--no-deps", "--dest", FOLDER]
    for each in releases:
        subprocess.run([*fetch, f"uvicorn=={each}"], check=True)
    return str(python)


def unpacked(archive: Path) -> Path:
    """Unpack a source distribution, and add crest's class to those that its tests run with."""
    with tarfile.open(archive) as file:
        file.extractall(FOLDER, filter="data")
    folder = FOLDER / archive.name.removesuffix(".tar.gz")
    conftest = folder / "tests" / "conftest.py"
    text = conftest.read_text("utf-8")
    before, fixture, after = text.partition("def ws_protocol_cls")
    start = before.rindex("    params=[\n") + len("    params=[\n")
    param = '        pytest.param("crest.asgi:WebSocketProtocol", id="crest"),\n'
    assert fixture, f"{archive.name} has no fixture ws_protocol_cls"
    conftest.write_text(before[:start] + param + before[start:] + fixture + after, "utf-8")
    return folder


def run(python: str, folder: Path) -> bool:
    """Run the tests of one release. True if they are as they should be."""
    command = [
        *(
            python,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore",
            "-o",
            "addopts=",
        ),
        *("--timeout", "20", "-k", f"crest and not ({' or '.join(MOCKED)})", "tests/protocols/test_websocket.py"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(folder)])}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    outcome = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (?:\[\d+\] )?\S+?::(\w+)", ended.stdout, re.MULTILINE)
    failed = {name for result, name in outcome if result in ("FAILED", "ERROR")}
    passed = {name for result, name in outcome if result == "PASSED"} - failed
    wrong, well = failed - set(EXCEPTIONS), passed & set(EXCEPTIONS)
    print(f"{folder.name}: {ended.stdout.strip().splitlines()[-1]}")
    for name in sorted(failed & set(EXCEPTIONS)):
        print(f"  not {name}: {EXCEPTIONS[name]}")
    for name in sorted(wrong | well):
        print(f"  WRONG {name}: {'it fails' if name in wrong else 'it is an exception, and passes'}")
    if wrong or len(passed) < 30:
        print(ended.stdout[-20000:], ended.stderr[-2000:])
    return not wrong and not well and len(passed) >= 30


def main() -> None:
    releases = sys.argv[1:] or RELEASES
    python = make_venv(releases)
    results = [run(python, unpacked(FOLDER / f"uvicorn-{each}.tar.gz")) for each in releases]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
