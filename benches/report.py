"""The comparison as Markdown. Knows what compare.py records, and nothing of how it was measured."""

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def number(value: float) -> str:
    """Three significant digits, and no fewer than the digits before the point: 0.0123, 4.56, 78.9, 1,235."""
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2}f}"


def servers(record: Record) -> list[str]:
    """All that were measured, in the order in which they were."""
    return list(dict.fromkeys(name for scenario in record["scenarios"].values() for name in scenario["servers"]))


def _table(record: Record, cell: Callable[[Record, Record], str]) -> list[str]:
    """A row for each scenario of which there is anything to say."""
    names = servers(record)
    lines = [f"| scenario | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for scenario in record["scenarios"].values():
        cells = [cell(scenario, scenario["servers"][name]) if name in scenario["servers"] else "" for name in names]
        if any(cells):
            lines.append(f"| {scenario['title']} | {' | '.join(cells)} |")
    return lines


def _cost(scenario: Record, server: Record) -> str:
    if "median" not in server:
        return "failed"
    unit = " B" if scenario["unit"] == "bytes" else ""
    ratio = f" ({number(server['ratio'])})" if "ratio" in server else ""
    return f"{number(server['median'])}{unit}{ratio}"


def _spread(scenario: Record, server: Record) -> str:
    return f"{number(server['lowest'])}–{number(server['highest'])}" if "median" in server else "failed"


def _rate(scenario: Record, server: Record) -> str:
    return f"{server['per_second']:,.0f}" if "per_second" in server else ""


def _failures(record: Record) -> list[str]:
    lines = []
    for name, scenario in record["scenarios"].items():
        for server, entry in scenario["servers"].items():
            if entry["errors"]:
                texts = "; ".join(dict.fromkeys(entry["errors"]))
                lines.append(f"- {name}, {server}: {len(entry['errors'])} of {len(entry['runs'])} runs failed: {texts}")
    return ["", "## Failures", "", *lines] if lines else []


def markdown(record: Record) -> str:
    """Tables of cost, rate and spread, the failures, the machine and the versions."""
    quick = ["**A quick run: it shows that everything works, its figures mean nothing.**", ""]
    lines = [
        "# Comparison",
        "",
        *(quick if record["quick"] else []),
        "CPU time of the server for each message, delivery or handshake in microseconds, and in brackets the ratio to"
        " `limit`, the bare loop that costs what the kernel costs; memory in bytes. Median of"
        f" {record['rounds']} round{'s' * (record['rounds'] != 1)} of {record['seconds']:g} s. Lower is better.",
        "",
        *_table(record, _cost),
        "",
        "## Lowest and highest of the rounds",
        "",
        *_table(record, _spread),
        "",
        "## Messages, deliveries or handshakes a second",
        "",
        "One CPU for the server, and a load generator that may be what limits it.",
        "",
        *_table(record, _rate),
        *_failures(record),
        "",
        "## Machine and versions",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in (record["machine"] | record["versions"]).items() if value),
    ]
    return "\n".join(lines) + "\n"
