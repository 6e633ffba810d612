"""crest.cluster.backoff: how long to wait before another attempt."""

from crest.cluster.backoff import FIRST, LONGEST, Backoff


def test_it_doubles_up_to_the_longest_and_begins_anew() -> None:
    backoff = Backoff(jitter=lambda least, most: most)
    waits = [backoff.fail() for _ in range(12)]
    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert waits[-2:] == [LONGEST, LONGEST] and waits == sorted(waits)
    backoff.succeed()
    assert backoff.fail() == FIRST


def test_the_jitter_is_half_of_it_at_most() -> None:
    spans: list[tuple[float, float]] = []

    def jitter(least: float, most: float) -> float:
        spans.append((least, most))
        return least

    backoff = Backoff(jitter)
    assert [backoff.fail() for _ in range(2)] == [FIRST / 2, FIRST]
    assert spans == [(FIRST / 2, FIRST), (FIRST, 2 * FIRST)]


def test_many_do_not_keep_step() -> None:
    assert len({Backoff().fail() for _ in range(50)}) > 10
