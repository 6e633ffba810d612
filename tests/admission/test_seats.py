"""crest.admission.seats: how many are in, in total and of each address."""

import pytest
from support.ledgers import ledgers

from crest.admission.proxies import Client
from crest.admission.seats import Full, Seats
from crest.io.loop.ledger import Ledger


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
    assert len(seats) == 0 and not seats.sitting._counts, "nothing is kept of those that have gone"


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
        assert len(seats) == 0 and not seats.standing._counts


def test_leaving_twice_counts_once() -> None:
    seats = Seats(None, 2)
    first, second = seats.take(("192.0.2.7", 1)), seats.take(("192.0.2.7", 2))
    first.leave()
    first.leave()
    assert len(seats) == 1 and seats.sitting._counts == {"192.0.2.7": 1}
    second.leave()
    assert len(seats) == 0


def test_whoever_is_refused_is_not_counted() -> None:
    seats = Seats(1, 1)
    seat = seats.take(("192.0.2.7", 1))
    assert refused(seats, ("192.0.2.8", 1)) is None
    seat.leave()
    assert len(seats) == 0 and not seats.sitting._counts


def test_the_text_says_of_whom() -> None:
    assert str(Full(None)) == "there are too many"
    assert str(Full("192.0.2.7")) == "there are too many from 192.0.2.7"


# ---- Several processes -----------------------------------------------------------------------------------------------


def shared(count: int, most: int | None, most_per_ip: int | None) -> list[Seats]:
    """The seats of so many processes, which count together."""
    found = [Seats(most, most_per_ip) for _ in range(count)]
    for seats, ledger in zip(found, ledgers(count), strict=True):
        seats.share(ledger, "/ws")
    return found


def test_processes_count_together() -> None:
    one, two, three = shared(3, 3, None)
    first, _, _ = one.take(None), two.take(("192.0.2.7", 1)), two.take(None)
    assert all(refused(seats, ("192.0.2.8", 1)) is None for seats in (one, two, three))
    first.leave()
    last = three.take(None)
    assert refused(one, None) is None
    last.stand()
    one.take(None)
    assert [len(seats) for seats in (one, two, three)] == [1, 2, 1], "each says its own"


def test_processes_count_each_address_together() -> None:
    one, two = shared(2, None, 2)
    clients = ("192.0.2.7", 1), ("192.0.2.8", 1)
    seats = [each.take(client) for each in (one, two) for client in clients]
    for client in clients:
        assert refused(one, client) == refused(two, client) == client[0]
    for _ in range(2):
        seats.pop().leave()
    assert one.take(clients[0]) and two.take(clients[1])


def test_those_who_stand_in_another_process_are_counted() -> None:
    one, two = shared(2, None, 1)
    client = ("192.0.2.7", 1)
    first = one.take(client)
    first.stand()
    second = two.take(client)
    second.stand()
    assert refused(one, client) == refused(two, client) == "192.0.2.7"
    first.leave()
    one.take(client)


def test_limits_of_other_names_are_others() -> None:
    first, second = ledgers(2)
    one, two = Seats(1, 1), Seats(1, 1)
    one.share(first, "/ws")
    two.share(second, "/game")
    assert one.take(("192.0.2.7", 1)) and two.take(("192.0.2.7", 1))


def test_who_comes_and_goes_leaves_nothing_behind() -> None:
    first, second = ledgers(2)
    seats = Seats(100, 100)
    seats.share(first, "/ws")
    for number in range(100):
        seat = seats.take((f"192.0.2.{number}", 1))
        if number % 2:
            seat.stand()
        seat.leave()
    assert not any(second.sum_of_others(first.account(name)) for name in ("/ws", "/ws 192.0.2.1"))


def test_seats_are_taken_and_left_without_memory_to_tell_others() -> None:
    """The next one that comes or goes lets them know."""

    class Forgetful:
        full = True

        def __init__(self, ledger: Ledger) -> None:
            self.account, self.sum_of_others, self._ledger = ledger.account, ledger.sum_of_others, ledger

        def write(self, account: int, value: int) -> bool:
            if self.full:
                raise MemoryError
            return self._ledger.write(account, value)

    first, second = ledgers(2)
    one, other = Seats(2, None), Seats(2, None)
    forgetful = Forgetful(first)
    one.share(forgetful, "/ws")  # type: ignore[arg-type]
    other.share(second, "/ws")
    one.take(None)
    assert len(one) == 1
    forgetful.full = False
    one.take(None)
    refused(other, None)
