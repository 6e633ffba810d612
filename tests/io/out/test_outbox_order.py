"""crest.io.out.outbox: messages of one connection arrive in the order of the calls, whatever else happens.

Random sequences of sends, broadcasts, pings and closes over several connections, within a turn and across turns, with
kernels that are full at random: what a peer gets must be what was accepted, in order, but for what the backlog refused.
"""

import pytest
from support.client import CLOSE
from support.link import scene
from support.story import Story, brief


@pytest.mark.parametrize("seed", range(30))
def test_messages_arrive_in_the_order_of_the_calls(direct: bool, seed: int) -> None:
    with scene(direct=direct, max_backlog=1 << 30) as unbounded:
        story = Story(unbounded, seed)
        story.tell(400)
        story.assert_complete()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [1, 1000, 30_000, 300_000])
@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest"])
def test_drop_loses_whole_messages_and_nothing_else(direct: bool, policy: str, seed: int, limit: int) -> None:
    """What came is what was accepted, in order, without the messages that `dropped` counts."""
    with scene(direct=direct, max_backlog=limit, on_backlog=policy) as bounded:
        story = Story(bounded, seed)
        story.tell(200)
        for link in story.links:
            frames, left = link.frames(), iter(story.accepted[link])
            for each in frames:
                assert each in left, f"{brief([each])} is not behind what came before it"
            missing = len(story.accepted[link]) - len(frames)
            assert link.connection.dropped == missing + story.refused[link]
            assert not bounded.seen(link)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [1, 1000, 30_000, 300_000])
def test_close_loses_nothing_before_the_close_frame(direct: bool, seed: int, limit: int) -> None:
    """What came is how what was accepted begins, up to a close frame with 1013; or all of it."""
    with scene(direct=direct, max_backlog=limit) as bounded:
        story = Story(bounded, seed)
        story.tell(200)
        for link in story.links:
            frames, accepted = link.frames(), story.accepted[link]
            if link.connection.dropped:
                *messages, close = frames
                assert brief(messages) == brief(accepted[: len(messages)])
                assert link.connection.dropped == len(accepted) - len(messages) + story.refused[link]
                assert (close.opcode, close.code) == (CLOSE, 1013)
                assert [event[0] for event in bounded.seen(link)] == ["error", "close"]
            else:
                assert brief(frames) == brief(accepted)
