"""crest.admission.seats: how many are in, in total and of each address."""

import pytest

from crest.admission.proxies import Client
from crest.admission.seats import Full, Seats


def refused(seats: Seats, client: Client | None) -> str | None:
    with pytest.raises(Full) as raised:
        seats.take(client)
    return raised.value.key


def test_in_total() -> None:
    seats = Seats(2, None)
    first, _ = seats.take(("192.0.2.7", 1)), seats.take(None)
    assert refused(seats, ("192.0.2.8", 1)) is None and refused(seats, None) is None
    first.leave()
    assert len(seats) == 1
    seats.take(None)


def test_of_each_address() -> None:
    seats = Seats(None, 1)
    first = seats.take(("2001:db8::1", 1))
    assert refused(seats, ("2001:db8::ffff", 2)) == "2001:db8::/64"
    other = seats.take(("192.0.2.7", 1))
    for _ in range(3):
        seats.take(None).leave()
    assert refused(seats, ("::ffff:192.0.2.7", 1)) == "192.0.2.7"
    first.leave()
    seats.take(("2001:db8::2", 1)).leave()
    assert len(seats) == 1
    other.leave()
    assert len(seats) == 0 and not seats._sitting._counts, "nothing is kept of those that have gone"


def test_those_who_stand_leave_room_for_as_many() -> None:
    """So a client that is reset may come back while its handlers run; and again only when some have ended."""
    client = ("192.0.2.7", 1)
    for seats in (Seats(2, None), Seats(None, 2)):
        first, second = seats.take(client), seats.take(client)
        first.stand()
        first.stand()
        assert len(seats) == 2
        third = seats.take(client)
        refused(seats, client)
        second.stand()
        fourth = seats.take(client)
        third.stand()
        fourth.stand()
        assert len(seats) == 4
        refused(seats, client)
        first.leave()
        seats.take(client).leave()
        for each in (first, second, third, fourth):
            each.leave()
            each.stand()
        assert len(seats) == 0 and not seats._standing._counts


def test_leaving_twice_counts_once() -> None:
    seats = Seats(None, 2)
    first, second = seats.take(("192.0.2.7", 1)), seats.take(("192.0.2.7", 2))
    first.leave()
    first.leave()
    assert len(seats) == 1 and seats._sitting._counts == {"192.0.2.7": 1}
    second.leave()
    assert len(seats) == 0


def test_whoever_is_refused_is_not_counted() -> None:
    seats = Seats(1, 1)
    seat = seats.take(("192.0.2.7", 1))
    assert refused(seats, ("192.0.2.8", 1)) is None
    seat.leave()
    assert len(seats) == 0 and not seats._sitting._counts


def test_the_text_says_of_whom() -> None:
    assert str(Full(None)) == "there are too many"
    assert str(Full("192.0.2.7")) == "there are too many from 192.0.2.7"
