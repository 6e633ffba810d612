"""Rooms, against a model in plain Python: who gets what, in which order, whatever else happens meanwhile."""

import pytest
from support.link import scene
from support.roomstory import DEFLATE, KeyedRoomStory, RoomStory

AT_ONCE = 1e-9
"""As a slice: each look at the clock interrupts the round."""


@pytest.mark.parametrize("crowd", [6, 150])
@pytest.mark.parametrize("seed", range(6))
def test_everything_arrives_once_and_in_order(direct: bool, seed: int, crowd: int) -> None:
    with scene(direct=direct, max_backlog=1 << 28, close_timeout=1e6) as stage:
        story = RoomStory(stage, seed, crowd=crowd)
        story.tell(1500)
        story.assert_complete()


@pytest.mark.parametrize("seed", range(4))
def test_between_slices(direct: bool, seed: int) -> None:
    with scene(direct=direct, fanout_slice=AT_ONCE, max_backlog=1 << 28, close_timeout=1e6) as stage:
        story = RoomStory(stage, seed, crowd=120, fast=True)
        story.tell(600)
        story.assert_complete()


@pytest.mark.parametrize("seed", range(4))
def test_with_threads_that_help(seed: int) -> None:
    with scene(direct=True, fanout_threads=3, max_backlog=1 << 28, close_timeout=1e6) as stage:
        story = RoomStory(stage, seed, crowd=400, fast=True)
        story.tell(300)
        story.assert_complete()


@pytest.mark.parametrize("crowd", [6, 150])
@pytest.mark.parametrize("seed", range(4))
def test_compressed_for_some(direct: bool, seed: int, crowd: int) -> None:
    with scene(direct=direct, deflate=DEFLATE, max_backlog=1 << 28, close_timeout=1e6) as stage:
        story = RoomStory(stage, seed, crowd=crowd, compressing=True)
        story.tell(800)
        story.assert_complete()


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest"])
@pytest.mark.parametrize("crowd", [6, 150])
@pytest.mark.parametrize("seed", range(4))
def test_dropped_for_slow_readers(direct: bool, seed: int, crowd: int, policy: str) -> None:
    with scene(direct=direct, on_backlog=policy, max_backlog=30_000, close_timeout=1e6) as stage:
        story = RoomStory(stage, seed, crowd=crowd)
        story.tell(1500)
        story.assert_partly()


@pytest.mark.parametrize("compressing", [False, True])
@pytest.mark.parametrize("crowd", [6, 150])
@pytest.mark.parametrize("seed", range(4))
def test_the_newest_of_each_key(direct: bool, seed: int, crowd: int, compressing: bool) -> None:
    deflate = DEFLATE if compressing else None
    with scene(direct=direct, on_backlog="latest", deflate=deflate, max_backlog=1 << 28, close_timeout=1e6) as stage:
        story = KeyedRoomStory(stage, seed, crowd=crowd, compressing=compressing)
        story.tell(1200)
        story.assert_newest()
