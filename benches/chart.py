"""The comparison as an SVG picture: a panel for each scenario, a bar for each server, on logarithmic scales.

Knows what compare.py records. Needs nothing but Python, and reads well on light and dark pages: the background is
transparent, and colours follow `prefers-color-scheme`.
"""

import math
from html import escape
from typing import Any

from report import number

Record = dict[str, Any]

COLUMNS = 2
COLUMN_WIDTH, MARGIN, GUTTER = 450, 16, 28
NAME_WIDTH, VALUE_WIDTH = 84, 104
ROW, BAR, TITLE, AXIS, GAP = 19, 12, 26, 18, 22
HEADING = 80

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #30363d; }
.heading { font-size: 17px; font-weight: 600; }
.note, .tick { fill: #656d76; }
.tick { font-size: 10px; text-anchor: middle; }
.title { font-weight: 600; }
.name { text-anchor: end; }
.own { font-weight: 600; }
.bar { fill: #8c959f; }
.bar.own { fill: #0969da; }
.bar.async { fill: #54aeff; }
.grid { stroke: #d0d7de; }
.unit { stroke: #30363d; stroke-dasharray: 3 2; }
.failed { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.note, .tick { fill: #9198a1; }
.bar { fill: #6e7681; }
.bar.own { fill: #58a6ff; }
.bar.async { fill: #2f6fbd; }
.grid { stroke: #30363d; }
.unit { stroke: #e6edf3; }
.failed { fill: #ff7b72; }
}
"""


class Scale:
    """A logarithmic axis from `low` to `high`, `width` wide."""

    def __init__(self, low: float, high: float, width: float) -> None:
        self.low, self.high, self.width = low, high, width

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        return self.width * math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """The powers of ten."""
        decades = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        return [10.0**decade for decade in decades]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, ... that is not less."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _css(name: str) -> str:
    return {"crest": " own", "crest-async": " async"}.get(name, "")


def _is_memory(scenario: Record) -> bool:
    return bool(scenario["unit"] == "bytes")


def _bars(scenario: Record) -> dict[str, Record]:
    return {name: entry for name, entry in scenario["servers"].items() if name != "limit"}


def _value(scenario: Record, entry: Record) -> float | None:
    """What a bar's length stands for: bytes, or the multiple of `limit`."""
    value: float | None = entry.get("median" if _is_memory(scenario) else "ratio")
    return value


def _label(scenario: Record, entry: Record) -> str:
    if _is_memory(scenario):
        return f"{entry['median']:,.0f} B"
    return f"{number(entry['median'])} µs · {number(entry['ratio'])}×"


def _scale(record: Record, scenario: Record) -> Scale:
    """All panels of CPU time share one scale, so that bars can be compared across them."""
    like = [each for each in record["scenarios"].values() if _is_memory(each) == _is_memory(scenario)]
    values = [value for each in like for entry in _bars(each).values() if (value := _value(each, entry))]
    width = COLUMN_WIDTH - NAME_WIDTH - VALUE_WIDTH
    if _is_memory(scenario):
        return Scale(100, max(10_000, 10.0 ** math.ceil(math.log10(max(values, default=1)))), width)
    return Scale(0.5, max(10, _round_up(max(values, default=1))), width)


def _tick_label(value: float, memory: bool) -> str:
    if not memory:
        return f"{value:g}×"
    return f"{value / 1000:g} kB" if value >= 1000 else f"{value:g} B"


def _title(scenario: Record) -> str:
    limit = scenario["servers"].get("limit", {})
    if "median" not in limit:
        return escape(scenario["title"])
    unit = f"{limit['median']:,.0f} B" if _is_memory(scenario) else f"{number(limit['median'])} µs"
    return f'{escape(scenario["title"])} <tspan class="note" font-weight="400">limit {unit}</tspan>'


def _panel(record: Record, scenario: Record, x: float, y: float) -> list[str]:
    bars, scale, memory = _bars(scenario), _scale(record, scenario), _is_memory(scenario)
    left, top = x + NAME_WIDTH, y + TITLE
    bottom = top + ROW * len(bars)
    lines = [f'<text class="title" x="{x}" y="{y + 14}">{_title(scenario)}</text>']
    for tick in scale.ticks():
        at = left + scale(tick)
        css = "unit" if tick == 1 and not memory else "grid"
        lines.append(f'<line class="{css}" x1="{at:.1f}" y1="{top - 3}" x2="{at:.1f}" y2="{bottom}"/>')
        lines.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 13}">{_tick_label(tick, memory)}</text>')
    for row, (name, entry) in enumerate(bars.items()):
        middle = top + ROW * row + ROW / 2 - 1
        lines.append(f'<text class="name{_css(name)}" x="{left - 8}" y="{middle + 4}">{escape(name)}</text>')
        value = _value(scenario, entry)
        if value is None:
            said = f"{number(entry['median'])} µs, no ratio" if "median" in entry else "failed"
            lines.append(f'<text class="failed" x="{left + 6}" y="{middle + 4}">{said}</text>')
            continue
        width = max(scale(value), 1)
        place = f'x="{left}" y="{middle - BAR / 2}" width="{width:.1f}" height="{BAR}"'
        lines.append(f'<rect class="bar{_css(name)}" {place} rx="2"/>')
        after = max(width, 0 if memory else scale(1)) + 6  # no label lies across the line of `limit`
        label = _label(scenario, entry)
        lines.append(f'<text class="{_css(name).strip()}" x="{left + after:.1f}" y="{middle + 4}">{label}</text>')
    return lines


def svg(record: Record) -> str:
    """Draw all scenarios; a server without figures is drawn as failed."""
    scenarios = list(record["scenarios"].values())
    columns = min(COLUMNS, len(scenarios))
    width = 2 * MARGIN + max(columns, COLUMNS) * COLUMN_WIDTH + (COLUMNS - 1) * GUTTER
    machine = record["machine"]
    place = f"{machine['CPU']} · {machine['kernel']} · {machine['Python']} · {machine['date']}"
    if record["quick"]:
        place = f"A quick run: its figures mean nothing · {place}"
    body, y = [], float(HEADING)
    for begin in range(0, len(scenarios), columns):
        row = scenarios[begin : begin + columns]
        for column, scenario in enumerate(row):
            body += _panel(record, scenario, MARGIN + column * (COLUMN_WIDTH + GUTTER), y)
        y += TITLE + ROW * max(len(_bars(scenario)) for scenario in row) + AXIS + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y:.0f}" width="{width}" role="img">',
            "<title>CPU time of WebSocket servers for each message, and their memory</title>",
            f"<style>{STYLE}</style>",
            f'<text class="heading" x="{MARGIN}" y="26">CPU time for each message, as a multiple of limit</text>',
            f'<text class="note" x="{MARGIN}" y="46">Lower is better; logarithmic. The dashed line is limit: a bare'
            " loop in C, what the kernel alone costs.</text>",
            f'<text class="note" x="{MARGIN}" y="64">{escape(place)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )
