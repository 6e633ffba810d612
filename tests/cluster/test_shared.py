"""crest.cluster.shared: memory that the processes of one app share."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crest.cluster.shared import ENTRIES, Shared, make_shared

PROGRAM = """
import sys
from crest.cluster.shared import Shared
shared = Shared(int(sys.argv[1]), 1, 3)
shared.census.begin()
print(shared.ledger.account("seats"), shared.ledger.write(shared.ledger.account("seats"), 7))
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    found = make_shared(3)
    yield found
    os.close(found)


def test_it_is_the_same_for_all(descriptor: int) -> None:
    one = Shared(descriptor, 0, 3)
    command = [sys.executable, "-c", PROGRAM, str(descriptor)]
    done = subprocess.run(command, pass_fds=[descriptor], check=True, capture_output=True, text=True)
    account, wrote = done.stdout.split()
    assert one.ledger.account("seats") == int(account) and wrote == "True"
    assert one.ledger.sum_of_others(int(account)) == 7, "though that process has ended"
    assert Shared(descriptor, 2, 3).ledger.sum_of_others(int(account)) == 7
    one.clear(1)
    assert one.ledger.sum_of_others(int(account)) == 0


def test_each_slot_is_cleared_for_itself(descriptor: int) -> None:
    found = [Shared(descriptor, slot, 3) for slot in range(3)]
    for number in range(1, 1000):
        assert all(each.ledger.write(number << 40, 1) for each in found)
    found[0].clear(1)
    assert found[0].ledger.sum_of_others(1 << 40) == found[2].ledger.sum_of_others(1 << 40) == 1
    assert found[1].ledger.sum_of_others(999 << 40) == 2
    assert found[1].ledger.write(5, 3) and found[0].ledger.sum_of_others(5) == 3, "and may be used anew"


def test_tables_take_only_what_is_written(descriptor: int) -> None:
    Shared(descriptor, 0, 3).ledger.write(1, 1)
    assert os.fstat(descriptor).st_size > 3 * 16 * ENTRIES
    assert os.fstat(descriptor).st_blocks * 512 <= 64 * 1024


def test_two_programs_have_two_secrets(descriptor: int) -> None:
    other = make_shared(1)
    try:
        assert Shared(other, 0, 1).ledger.account("seats") != Shared(descriptor, 0, 3).ledger.account("seats")
    finally:
        os.close(other)


def test_children_do_not_get_it_by_themselves(descriptor: int) -> None:
    assert not os.get_inheritable(descriptor)
