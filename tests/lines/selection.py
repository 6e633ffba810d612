"""The tests that `make coverage` runs: pytest's plugin for it.

With line tracing most tests take three to ten times as long. Many have parameters by the hundred, which matter for what
is checked and not for which lines are run: of each function there is a sample.
"""

import re
from collections import defaultdict

import pytest
from coverage import Coverage

MOST = 60
"""Of one function: from its first set of parameters to its last, evenly."""

FEW = 6
"""Of one function that takes long."""

LONG = (
    "a_reset_right_behind",
    "an_end_right_behind",
    "an_end_without_a_close_frame",
    "any_split_of_the_stream_is_read_the_same",
    "anything_at_all",
    "anything_at_all_between_slices",
    "between_slices",
    "blocks_that_inflate_to_nothing_are_a_message_too_big",
    "both_ways_with_websockets",
    "close_loses_nothing_before_the_close_frame",
    "compressed_for_some",
    "drop_loses_whole_messages_and_nothing_else",
    "dropped_for_slow_readers",
    "every_ending_frees_transport_and_protocol",
    "every_interleaving_keeps_the_order",
    "everything_arrives_once_and_in_order",
    "fragmented_message_grows",
    "many_clients_do_not_keep_others_out",
    "message_of_any_size",
    "messages_arrive_in_the_order_of_the_calls",
    "none_is_early_late_or_lost",
    "the_close_frame_reaches_who_keeps_flooding",
    "the_newest_of_each_key",
    "whatever_a_client_makes_of_noise_is_short_enough",
    "whatever_happens",
    "with_little",
    "with_memory_for_all",
)
"""Tests of which one set of parameters takes a second or more."""

LONGS = re.compile(rf"::test_({'|'.join(LONG)})$")

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
    "every_code_point_above_the_basic_plane",
    "every_sequence_of_three_bytes_with_a_lead_for_three",
    "every_short_sequence",
    "every_short_string",
    "every_size_and_alignment",
    "every_split_in_two",
    "keys_of_nobody_who_lags_are_forgotten",
    "memory_has_a_bound",
    "mutations",
    "mutations_in_random_chunks",
    "oracle_agrees_with_the_decoder",
    "parameters_of_websockets",
    "pongs_alone_are_bounded",
    "soak",
    "ten_thousand_come_and_go_and_leave_nothing",
    "the_oldest_make_way_for_broadcasts",
    "what_was_dropped_is_freed",
)
"""Tests that run the same lines very often."""

LEFT_OUT = {
    r"tests/(benches|fuzz|soak)/": "they test the tools of developers",
    r"tests/docs/|tests/test_(architecture|docs|example\w*|packaging|prose|typing)\.py": (
        "they test documents, sources, packages and pages"
    ),
    r"::test_a_browser": "a browser is slow beside tests, and sends nothing that other tests do not send",
    r"tests/hostile/": "it counts what is allocated, and traces by itself",
    r"tests/(wire|cluster)/test_no_memory\.py|::test_no_memory_leaves": (
        "without memory the tracer fails before crest does"
    ),
    r"tests/system/test_(backlog_total|backpressure)\.py": "they measure memory, and send very much",
    r"^(?!tests/(listening/test_signals|system/test_forks)\.py).*\[(.*-)?asyncio\b": (
        "a twin runs with uvloop: fewer functions to trace, and the same lines of crest"
    ),
    r"::test_(room_of_a_fragmented_message_is|nothing_is_allocated)": "they count what is allocated, by the tracer too",
    r"::test_\w*_in_linear_time": "they take time, to measure it",
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
    return {name for function, each in found.items() for name in spread(each, FEW if LONGS.search(function) else MOST)}


def spread(names: list[str], most: int) -> list[str]:
    if len(names) <= most:
        return names
    return [names[at * (len(names) - 1) // (most - 1)] for at in range(most)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = sample([item.nodeid for item in items])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Write down what was traced: a worker that is slow to end, on a busy machine, is killed before it does so."""
    current = Coverage.current()
    if current is not None:
        current.save()
