"""crest.io.loop.ledger: what each of several processes counts, where the others can read it."""

import mmap
import os
import random
from collections import Counter

import pytest
from support.ledgers import SECRET, ledgers, memory

from crest.io.loop.ledger import Ledger


def test_each_process_reads_the_others() -> None:
    one, two, three = ledgers(3)
    account = one.account("seats")
    assert two.account("seats") == account != two.account("seat")
    assert one.sum_of_others(account) == one.most_of_others(account) == 0
    assert one.write(account, 5) and two.write(account, 7) and three.write(account + 1, 9)
    assert [each.sum_of_others(account) for each in (one, two, three)] == [7, 5, 12]
    assert [each.most_of_others(account) for each in (one, two, three)] == [7, 5, 7]
    assert two.write(account, 0)
    assert three.sum_of_others(account) == 5


def test_an_account_can_not_be_guessed() -> None:
    shared = memory(1, 4)
    assert Ledger(shared, 0, 1, b"a").account("seats") != Ledger(shared, 0, 1, b"b").account("seats")
    assert 0 < Ledger(shared, 0, 1, b"a").account("\udc80") < 1 << 64


def test_the_largest_numbers() -> None:
    one, two = ledgers(2)
    assert one.write((1 << 64) - 1, (1 << 64) - 1)
    assert two.most_of_others((1 << 64) - 1) == (1 << 64) - 1


@pytest.mark.parametrize("spread", [1, 64], ids=["that all want one place", "anywhere"])
def test_random_steps_against_a_model(spread: int) -> None:
    """Accounts that want the same place, and those at the end of the table that go on at its beginning."""
    chance = random.Random(spread)
    one, two = ledgers(2, 64)
    model: Counter[int] = Counter()
    accounts = [64 * (i + 1) + (chance.randrange(64) if spread > 1 else 61) for i in range(60)]
    for _ in range(20_000):
        account, value = chance.choice(accounts), chance.choice([0, 0, 1, chance.getrandbits(64)])
        fits = account in model or value == 0 or len(model) < 49
        assert one.write(account, value) == fits
        if value and fits:
            model[account] = value
        elif not value:
            del model[account]
        each = chance.choice(accounts)
        assert two.sum_of_others(each) == model[each]
        if not model[each]:
            del model[each]
    assert {each: two.sum_of_others(each) for each in accounts if two.sum_of_others(each)} == model


def test_without_room_nothing_changes() -> None:
    one, two = ledgers(2, 8)
    assert [one.write(account, 1) for account in range(1, 9)] == [True] * 7 + [False]
    assert (one.refused, two.refused) == (1, 0)
    assert two.sum_of_others(8) == 0 and all(two.sum_of_others(account) == 1 for account in range(1, 8))
    assert one.write(3, 2) and two.sum_of_others(3) == 2
    assert one.write(3, 0) and one.write(8, 4) and two.sum_of_others(8) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_reader_sees_no_table_that_is_half_written() -> None:
    """While the writer moves entries to and fro it finds one as it is, or none where there is none for a while."""
    size = 2 * 65 * Ledger.ENTRY
    shared = mmap.mmap(-1, size)
    here = Ledger(shared, 0, 2, SECRET)
    last = 64 * 20 + 5
    child = os.fork()
    if not child:
        there = Ledger(shared, 1, 2, SECRET)
        there.write(last, 7)
        while True:
            for account in range(64 + 5, last, 64):
                there.write(account, 1)
                here.sum_of_others(last)
            there.write(last, 0)  # now behind all these, which go before it does
            there.write(last, 7)
            for account in range(64 + 5, last, 64):
                there.write(account, 0)
                here.sum_of_others(last)
    try:
        while not here.sum_of_others(last):
            pass
        found = Counter(here.sum_of_others(last) for _ in range(300_000))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert set(found) <= {0, 7} and found[7]


def test_what_can_not_be() -> None:
    with pytest.raises(ValueError, match="there is no slot 2 of 2"):
        Ledger(memory(2, 8), 2, 2, SECRET)
    with pytest.raises(ValueError, match="64 bytes are too few for 1 tables"):
        Ledger(bytearray(64), 0, 1, SECRET)
    with pytest.raises(BufferError):
        Ledger(bytes(1024), 0, 1, SECRET)
    one = Ledger(memory(1, 8), 0, 1, SECRET)
    with pytest.raises(OverflowError):
        one.write(1, -1)
    with pytest.raises(OverflowError):
        one.write(1, 1 << 64)
