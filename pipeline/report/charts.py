"""Charts, as SVG that a page holds: drawn here, in the page's own colours and type.

Every chart has words for those who do not see it. Nothing tells by colour alone: what was before
is dashed or hollow, what came after is solid.
"""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pipeline.report.scores import Histogram
from pipeline.report.words import images, number

# Of a histogram, in units that are about a pixel on a phone.
_WIDTH, _HEIGHT = 360, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 24, 26
# Of a line in a table.
_LINE_WIDTH, _LINE_HEIGHT = 220, 24
_MARGIN = 10
_SPANNED = 5


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Give round numbers in a range, at most so many, at equal distances: 1, 2 or 5 times a power
    of ten apart.
    """
    if not low < high:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _digits(values: Sequence[float]) -> int:
    """Give how many digits after the point tell round numbers exactly."""
    return next((d for d in range(10) if all(round(one, d) == one for one in values)), 10)


def histogram_chart(
    counted: Histogram, classes: Sequence[str], means: Sequence[float | None], words: str
) -> Markup:
    """Draw how often values are where, one outline for each series.

    Args:
        counted: what to draw.
        classes: a style for each series.
        means: marked by a line for each series; None for no line.
        words: what it shows, for those who do not see it.
    """
    edges = counted.edges
    highest = max(1, *(int(counts.max()) for counts in counted.counts))
    plot = _HEIGHT - _TOP - _BOTTOM
    base = _HEIGHT - _BOTTOM

    def x_of(value: float) -> float:
        share = (value - edges[0]) / (edges[-1] - edges[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    parts = [_axis(ticks(edges[0], edges[-1]), x_of, base)]
    for counts, style in zip(counted.counts, classes, strict=True):
        tops = base - plot * counts / highest
        path = [f"M{_n(x_of(edges[0]))} {base}"]
        for left, right, top in zip(edges[:-1], edges[1:], tops, strict=True):
            path.append(f"L{_n(x_of(left))} {_n(top)}H{_n(x_of(right))}")
        path.append(f"V{base}Z")
        parts.append(Markup('<path class="area {}" d="{}"/>').format(style, "".join(path)))
    for mean, style in zip(means, classes, strict=True):
        if mean is not None and edges[0] <= mean <= edges[-1]:
            place = _n(x_of(mean))
            parts.append(
                Markup('<line class="mean {}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(
                    style, _TOP - 6, base, x=place
                )
            )
    # What the height of the plot stands for.
    parts.append(
        Markup('<text class="tick" x="{}" y="12">{}</text>').format(_LEFT, images(highest))
    )
    if edges[0] < 0 < edges[-1]:
        parts.append(
            Markup('<line class="zero" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(
                _TOP - 10, base, x=_n(x_of(0))
            )
        )
    return _svg(_WIDTH, _HEIGHT, "chart", words, parts)


def _axis(values: Sequence[float], x_of, base: float) -> Markup:
    digits = _digits(values)
    parts = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
            _LEFT, _WIDTH - _RIGHT, y=base
        )
    ]
    for value in values:
        place = x_of(value)
        # Those at the ends are not to stick out.
        anchor = "start" if place < 24 else "end" if place > _WIDTH - 24 else "middle"
        parts.append(
            Markup(
                '<line class="axis" x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{x}" y="{}" text-anchor="{}">{}</text>'
            ).format(base, base + 4, base + 18, anchor, number(value, digits), x=_n(place))
        )
    return Markup("").join(parts)


class Span:
    """An axis that the lines of a table share.

    Args:
        values: all that is to be on it.
    """

    def __init__(self, values: Sequence[float]) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = 0.04 * (high - low) or 0.5 * abs(low) or 0.5
        self.low, self.high = low - room, high + room

    def _x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _MARGIN + share * (_LINE_WIDTH - 2 * _MARGIN)

    def head(self) -> Markup:
        """Draw the axis, for the head of the table."""
        values = ticks(self.low, self.high, _SPANNED)
        digits = _digits(values)
        parts = [
            Markup('<text class="tick" x="{}" y="15" text-anchor="middle">{}</text>').format(
                _n(min(max(self._x(value), 12), _LINE_WIDTH - 12)), number(value, digits)
            )
            for value in values
        ]
        return _svg(_LINE_WIDTH, 20, "span", "", parts)

    def line(
        self,
        before: float | None,
        after: float | None,
        interval: tuple[float, float] | None = None,
    ) -> Markup:
        """Draw from where to where a mean went: hollow before, solid after, with the interval of
        the latter.
        """
        middle = _LINE_HEIGHT / 2
        parts = [
            Markup('<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{}"/>').format(
                _LINE_HEIGHT, x=_n(self._x(value))
            )
            for value in ticks(self.low, self.high, _SPANNED)
        ]
        if before is not None and after is not None:
            parts.append(
                Markup('<line class="way" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                    _n(self._x(before)), _n(self._x(after)), y=middle
                )
            )
        if interval is not None:
            low, high = (_n(self._x(min(max(end, self.low), self.high))) for end in interval)
            parts.append(
                Markup('<path class="whisker" d="M{} {}V{}M{} {y}H{}M{} {}V{}"/>').format(
                    low, middle - 5, middle + 5, low, high, high, middle - 5, middle + 5, y=middle
                )
            )
        for value, style in ((before, "before"), (after, "after")):
            if value is not None:
                parts.append(
                    Markup('<circle class="dot {}" cx="{}" cy="{}" r="5"/>').format(
                        style, _n(self._x(value)), middle
                    )
                )
        return _svg(_LINE_WIDTH, _LINE_HEIGHT, "span", "", parts)


def _svg(width: int, height: int, style: str, words: str, parts: Sequence[Markup]) -> Markup:
    """Put a chart together; one without words only repeats what stands beside it."""
    said = Markup('role="img" aria-label="{}"') if words else Markup('aria-hidden="true"')
    return Markup('<svg class="{}" viewBox="0 0 {} {}" {}>{}</svg>').format(
        style, width, height, said.format(words), Markup("").join(parts)
    )


def _n(value: float) -> str:
    """Write a coordinate, to a tenth."""
    return np.format_float_positional(round(float(value), 1), trim="-")
