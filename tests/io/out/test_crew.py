"""crest.io.out.crew: several threads send a broadcast, and nobody can tell."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.client import GUARD
from support.link import SMALL_KERNEL, Link, Scene, scene
from support.story import ComingAndGoing

from crest.io.out.crew import Crew

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no POSIX threads, no crew")

CROWD = 600
"""Connections, so many that helpers are called."""

TASKS = Path("/proc/self/task")
HEADERS = Path(__file__).parents[3] / "src" / "crest" / "io" / "out"


def crowd(stage: Scene, size: int = CROWD, **options: int) -> list[Link]:
    return [stage.link(**options) for _ in range(size)]


def test_everyone_gets_everything_once_and_in_order() -> None:
    with scene(direct=True, fanout_threads=3) as stage:
        links = crowd(stage)
        for number in range(10):
            stage.hub.broadcast(f"{number} a")
            stage.hub.broadcast(f"{number} b")
            stage.end_turn()
        expected = [f"{number} {letter}" for number in range(10) for letter in "ab"]
        assert all(link.taken() == expected for link in links)


@pytest.mark.skipif(not TASKS.is_dir(), reason="a process's threads are counted in /proc")
def test_threads_begin_with_the_first_large_broadcast_and_end_with_the_hub() -> None:
    before = set(TASKS.iterdir())  # some of them may be about to end: other tests'

    def begun() -> set[Path]:
        return set(TASKS.iterdir()) - before

    with scene(direct=True, fanout_threads=3) as stage:
        links = crowd(stage, 100)
        stage.hub.broadcast("few")
        stage.end_turn()
        assert not begun()
        links += crowd(stage)
        stage.hub.broadcast("many")
        stage.end_turn()
        assert len(begun()) == 2
        stage.hub.close()
        until = time.monotonic() + GUARD
        while begun():  # a thread that was joined is still listed for a moment
            assert time.monotonic() < until


def test_who_takes_a_part_gets_the_rest() -> None:
    with scene(direct=True, fanout_threads=4, max_backlog=1 << 24) as stage:
        links = crowd(stage)
        slow = crowd(stage, 30, send_buffer=SMALL_KERNEL)
        random.Random(1).shuffle(links)
        links += slow + crowd(stage)
        messages = ["x" * 1000, "y" * 60_000, "z" * 3000]
        for message in messages:
            stage.hub.broadcast(message)
        stage.end_turn()
        assert all(link.connection.buffered for link in slow)
        for link in links:
            link.read_all()
            stage.end_turn(2)
            assert link.taken() == messages


def test_who_has_gone_is_no_trouble() -> None:
    with scene(direct=True, fanout_threads=2) as stage:
        links = crowd(stage)
        for link in links[::7]:
            link.peer.close()
        stage.hub.broadcast("x")
        stage.end_turn()
        stage.hub.broadcast("y")
        stage.end_turn()
        assert not any(link.connection.is_open() for link in links[::7])
        del links[::7]
        assert all(link.taken() == ["x", "y"] for link in links)


@pytest.mark.parametrize("seed", range(4))
def test_anything_at_all_between_slices(seed: int) -> None:
    """How far a slice comes is chance; what arrives is not."""
    with scene(direct=True, fanout_threads=3, fanout_slice=3e-4, max_backlog=1 << 26, close_timeout=1e6) as stage:
        story = ComingAndGoing(stage, seed, CROWD)
        story.tell(400)
        story.assert_complete()


def test_a_fork_has_no_threads_to_wait_for() -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from support.link import scene
with scene(direct=True, fanout_threads=2) as stage:
    links = [stage.link() for _ in range({CROWD})]
    stage.hub.broadcast("x")
    stage.end_turn()
    child = os.fork()
    if child == 0:
        stage.hub.close()
        del stage
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr


def test_more_threads_than_there_can_be() -> None:
    Crew(10_000)


def test_claims_under_a_thread_sanitizer(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not HEADERS.is_dir():
        pytest.skip("needs the sources and a C compiler")
    command = [compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fsanitize=thread", f"-I{HEADERS}"]
    built = subprocess.run(
        [*command, Path(__file__).with_name("crew_test.c"), "-o", tmp_path / "test", "-pthread"],
        capture_output=True,
        text=True,
    )
    if "tsan" in built.stderr:
        pytest.skip("this compiler has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    # gcc's sanitizer can not do with the addresses that newer kernels of Linux choose at random.
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run([*fixed, tmp_path / "test"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
