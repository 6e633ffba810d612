"""How many workers there are to be, and how many processors this process may use."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path
from typing import Final

from crest.exceptions import ConfigurationError
from crest.io.loop.poller import Poller

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""Quota and period of a control group, in microseconds (cgroups version 2); "max" for none."""

QUOTA_1: Final = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
PERIOD_1: Final = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""The same of version 1; -1 for none."""


MOST: Final = 256
"""Workers."""


def workers_of(workers: object) -> int:
    """Return the number of workers that `App.run` was asked for.

    Raises:
        TypeError, ValueError: That is none.
        ConfigurationError: This system can have no more than one.
    """
    if workers == "auto":
        count = processors()
    elif not isinstance(workers, int) or isinstance(workers, bool):
        raise TypeError(f'workers must be int or "auto", not {workers!r}')
    else:
        count = workers
    if not 1 <= count <= MOST:
        raise ValueError(f"workers must be 1 to {MOST}, not {count}")
    if count > 1 and not Poller.exists:
        raise ConfigurationError("on this system there can be no more than one worker")
    return count


def processors() -> int:
    """Count the processors that the affinity and the quota of the control group leave: at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else max(1, min(count, ceil(quota)))


def _quota() -> float | None:
    """Return the processors that the control group may use, which need not be a whole number; None: any."""
    for paths in ((QUOTA,), (QUOTA_1, PERIOD_1)):
        try:
            quota, period = map(int, " ".join(path.read_text() for path in paths).split())
        except (OSError, ValueError):  # there is none
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
