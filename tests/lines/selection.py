"""The tests that `make coverage` runs: pytest's plugin for it.

With line tracing most tests take three to ten times as long. Many have parameters by the hundred, which matter for what
is checked and not for which lines are run: of each function there is a sample.
"""

import re
from collections import defaultdict

import pytest

MOST = 60
"""Of one function: from its first set of parameters to its last, evenly."""

OFTEN = (
    "a_message_is_dropped_whole",
    "a_ping_flood_without_reading_drops",
    "a_ping_flood_without_reading_is_closed",
    "broadcasts_to_who_lags_take_no_memory",
    "close_code_of_each_value",
    "compile_time_is_wire_close_code",
    "default_limits",
    "every_class_of_sequence",
    "every_class_of_sequence_byte_by_byte",
    "every_sequence_of_three_bytes_with_a_lead_for_three",
    "every_short_sequence",
    "every_short_string",
    "keys_of_nobody_who_lags_are_forgotten",
    "pongs_alone_are_bounded",
    "soak",
    "ten_thousand_come_and_go_and_leave_nothing",
    "the_oldest_make_way_for_broadcasts",
    "what_was_dropped_is_freed",
)
"""Tests that run the same lines very often."""

LEFT_OUT = {
    r"tests/(benches|fuzz|soak)/": "they test the tools of developers",
    r"tests/docs/|tests/test_(architecture|docs|examples|packaging|prose|typing)\.py": (
        "they test documents, sources and packages"
    ),
    r"tests/hostile/": "it counts what is allocated, and traces by itself",
    r"tests/wire/test_no_memory\.py|::test_no_memory_leaves": "without memory the tracer fails before crest does",
    r"tests/system/test_(backlog_total|backpressure)\.py": "they measure memory, and send very much",
    r"^(?!tests/(listening/test_signals|system/test_forks)\.py).*\[(.*-)?asyncio\b": (
        "a twin runs with uvloop: fewer functions to trace, and the same lines of crest"
    ),
    r"::test_(room_of_a_fragmented_message_is|nothing_is_allocated)": "they count what is allocated, by the tracer too",
    r"::test_\w*costs_(little|about)": "they count what is allocated, and send very much",
    r"::test_nothing_is_read_while_much_waits_that_tls": "its patience ends before many small records are traced",
    r"::test_a_privileged_port": "its program has no right to write down what was traced",
    rf"::test_({'|'.join(OFTEN)})(\[|$)": "they run the same lines very often",
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
