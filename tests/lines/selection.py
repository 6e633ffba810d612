"""The tests that `make coverage` runs: pytest's plugin for it.

With line tracing most tests take three to ten times as long. Many have parameters by the hundred, which matter for what
is checked and not for which lines are run: of each function there is a sample.
"""

import re
from collections import defaultdict

import pytest

MOST = 60
"""Of one function: from its first set of parameters to its last, evenly."""

LEFT_OUT = {
    r"tests/(benches|fuzz|soak)/": "they test the tools of developers",
    r"tests/test_(architecture|docs|examples|packaging|prose|typing)\.py": "they test documents, sources and packages",
    r"tests/hostile/": "it counts what is allocated, and traces by itself",
    r"tests/wire/test_no_memory\.py|::test_no_memory_leaves": "without memory the tracer fails before crest does",
    r"tests/system/test_(backlog_total|backpressure)\.py": "they measure memory, and send very much",
    r"^(?!tests/(listening/test_signals|system/test_forks)\.py).*\[(.*-)?asyncio\b": (
        "a twin runs with uvloop: fewer functions to trace, and the same lines of crest"
    ),
    r"::test_(room_of_a_fragmented_message_is|nothing_is_allocated)": "they count what is allocated, by the tracer too",
    r"::test_nothing_is_read_while_much_waits_that_tls": "its patience ends before many small records are traced",
    r"::test_a_privileged_port": "its program has no right to write down what was traced",
    r"::test_every_(class|short|sequence)\w*|::test_\w*costs_(little|about)\w*|::test_(a_message_is_dropped_whole|"
    r"broadcasts_to_who_lags_take_no_memory|close_code_of_each_value|compile_time_is_wire_close_code|default_limits|"
    r"keys_of_nobody_who_lags|pongs_alone_are_bounded|a_ping_flood_without_reading\w*|soak|ten_thousand_come_and_go|the_oldest_make_way_for_broadcasts|"
    r"what_was_dropped_is_freed)\b": "they run the same lines very often",
}
"""Tests that are not run, by what is found in their name; and why."""


def sample(names: list[str]) -> set[str]:
    """Return those to run."""
    found = defaultdict(list)
    for name in names:
        if not any(re.search(pattern, name) for pattern in LEFT_OUT):
            found[name.partition("[")[0]].append(name)
    return {name for each in found.values() for name in spread(each)}


def spread(names: list[str]) -> list[str]:
    if len(names) <= MOST:
        return names
    return [names[at * (len(names) - 1) // (MOST - 1)] for at in range(MOST)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = sample([item.nodeid for item in items])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]
