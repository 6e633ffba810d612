"""crest.cluster.shared: memory that the processes of one app share."""

import os
import subprocess
import sys

from crest.cluster.shared import make_shared, open_census
from crest.io.loop.census import Census


def test_it_is_the_same_for_all() -> None:
    descriptor = make_shared(3 * Census.SLOT)
    try:
        one, other = open_census(descriptor, 0), open_census(descriptor, 2)
        one.begin()
        assert other.connections() == [0, 0, 0]
        program = (
            "import sys; from crest.cluster.shared import open_census\n"
            "census = open_census(int(sys.argv[1]), 1); census.begin(); census.clear(0)"
        )
        subprocess.run([sys.executable, "-c", program, str(descriptor)], pass_fds=[descriptor], check=True)
        first, second, third = (os.pread(descriptor, 4, slot * Census.SLOT) for slot in range(3))
        assert (first, second, third) == (bytes(4), (1).to_bytes(4, sys.byteorder), bytes(4))
    finally:
        os.close(descriptor)


def test_children_do_not_get_it_by_themselves() -> None:
    descriptor = make_shared(64)
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)
