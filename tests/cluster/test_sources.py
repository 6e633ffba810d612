"""crest.cluster.sources: numbers that are left out, and what explains them."""

from crest.cluster.sources import Sources


def test_messages_in_order_lack_nothing() -> None:
    sources = Sources()
    assert [sources.tell_message(1, number) for number in (7, 8, 9)] == [0, 0, 0]
    assert [sources.tell_message(2, number) for number in (1, 2)] == [0, 0]
    assert sources.tell_message(1, 10) == 0


def test_numbers_that_are_left_out_are_missing() -> None:
    sources = Sources()
    sources.tell_message(1, 1)
    assert sources.tell_message(1, 5) == 3
    assert sources.tell_message(1, 6) == 0


def test_a_gap_explains_them_once() -> None:
    sources = Sources()
    sources.tell_message(1, 1)
    sources.tell_message(2, 1)
    sources.tell_gap(5)
    assert sources.tell_message(1, 4) == 0
    assert sources.tell_message(2, 7) == 2
    assert sources.tell_message(1, 6) == 1


def test_messages_to_rooms_are_numbered_for_themselves() -> None:
    sources = Sources()
    sources.tell_message(1, 1)
    assert sources.tell_message(1, 90, True) == 0
    assert sources.tell_message(1, 99, True) == 0
    assert sources.tell_message(1, 2) == 0


def test_a_start_says_what_was_lost_with_an_exchange() -> None:
    sources = Sources()
    assert sources.tell_start(1, 77, 10, 0) == (0, False)
    sources.tell_message(1, 11)
    assert sources.tell_start(1, 77, 15, 0) == (4, False)
    assert sources.tell_start(1, 77, 15, 0) == (0, False)
    assert sources.tell_message(1, 16) == 0


def test_a_start_that_may_lack_messages_to_rooms() -> None:
    sources = Sources()
    sources.tell_start(1, 77, 0, 5)
    sources.tell_message(1, 6, True)
    assert sources.tell_start(1, 77, 0, 6) == (0, False)
    assert sources.tell_start(1, 77, 0, 7) == (0, True)


def test_another_process_with_the_same_number_begins_anew() -> None:
    sources = Sources()
    sources.tell_start(1, 77, 100, 0)
    assert sources.tell_start(1, 78, 500, 3) == (0, False)
    assert sources.tell_message(1, 501) == 0
