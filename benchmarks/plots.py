"""Bar charts as SVG, written by hand: readable in light and in dark, no library. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

_WIDTH, _ROW, _TOP, _BOTTOM = 720, 30, 58, 14
_LEFT, _RIGHT = 190, 130  # room for the names, and for the figures behind the bars
_STYLE = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 15px; }
    .small { fill: #59636e; font-size: 12px; }
    .bar { fill: #8c959f; }
    .ours { fill: #1f6feb; }
    .spread { stroke: #1f2328; stroke-width: 1.5; }
    .axis { stroke: #d1d9e0; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .small { fill: #9198a1; }
      .bar { fill: #656c76; }
      .ours { fill: #4493f8; }
      .spread { stroke: #f0f6fc; }
      .axis { stroke: #3d444d; }
    }
  </style>
"""


@dataclass(frozen=True)
class Bar:
    """One bar: its median, the lowest and highest round, and the text behind it; `failed` instead of figures."""

    name: str
    median: float = 0
    low: float = 0
    high: float = 0
    text: str = ""
    ours: bool = False
    failed: str = ""


def chart(title: str, unit: str, better: str, bars: list[Bar]) -> str:
    """Return a whole SVG document: one bar each, in the order given, with its spread as a thin line."""
    height = _TOP + _ROW * len(bars) + _BOTTOM
    most = max((bar.high for bar in bars if not bar.failed), default=0) or 1
    label = escape(f"{title}: " + ", ".join(f"{bar.name} {bar.failed or bar.text}" for bar in bars), quote=True)
    hint = f"{unit}, {better} is better; the thin line is the spread over the rounds".removeprefix(", ")
    rows = "".join(_row(bar, _TOP + _ROW * number, most) for number, bar in enumerate(bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        f'role="img" aria-label="{label}">\n{_STYLE}'
        f'  <text class="title" x="12" y="24">{escape(title)}</text>\n'
        f'  <text class="small" x="12" y="43">{escape(hint)}</text>\n'
        f'  <line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP - 4}" y2="{height - _BOTTOM + 4}"/>\n'
        f"{rows}</svg>\n"
    )


def _row(bar: Bar, top: int, most: float) -> str:
    middle = top + _ROW // 2
    name = f'  <text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.name)}</text>\n'
    if bar.failed:
        return f'{name}  <text class="small" x="{_LEFT + 8}" y="{middle + 4}">{escape(_short(bar.failed))}</text>\n'
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    kind = "bar ours" if bar.ours else "bar"
    low, end, high = (_LEFT + value * scale for value in (bar.low, bar.median, bar.high))
    return (
        f'{name}  <rect class="{kind}" x="{_LEFT}" y="{top + 5}" width="{end - _LEFT:.1f}" height="{_ROW - 10}" rx="2"/>\n'
        f'  <line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>\n'
        f'  <text x="{max(high, end) + 8:.1f}" y="{middle + 4}">{escape(bar.text)}</text>\n'
    )


def _short(reason: str) -> str:
    return reason if len(reason) <= 70 else f"{reason[:69]}…"
