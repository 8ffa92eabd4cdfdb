"""One colour and one marker for each method: the same on every page and in every picture. Needs no torch.

A method declares its style, `style = ("blue", "circle")`, so that it does not change when other methods join a board.
No two of those that come with this program share a marker, so they can be told apart without colour; controls are grey.
A pipeline has the colour of its first method that is no control, and the marker of its last other stage: `tic+quantize`
has tic's colour and quantize's marker. A method without a declared style, or that is not installed here, gets one by a
digest of its name, in colours of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.plugins.declared import Declared

MARKERS = {
    "circle": ("o", "M5 1a4 4 0 1 0 .01 0z"),
    "square": ("s", "M1.5 1.5h7v7h-7z"),
    "diamond": ("D", "M5 0l5 5-5 5-5-5z"),
    "triangle-up": ("^", "M5 1l5 8H0z"),
    "triangle-down": ("v", "M0 1h10L5 9z"),
    "triangle-left": ("<", "M.5 5L9 0v10z"),
    "triangle-right": (">", "M9.5 5L1 0v10z"),
    "pentagon": ("p", "M5 0l5 3.8-1.9 6H1.9L0 3.8z"),
    "hexagon": ("h", "M5 0l4.5 2.5v5L5 10 .5 7.5v-5z"),
    "octagon": ("8", "M3 0h4l3 3v4l-3 3H3L0 7V3z"),
    "diamond-tall": ("d", "M5 0l3 5-3 5-3-5z"),
    "cross": ("P", "M3.5 0h3v3.5H10v3H6.5V10h-3V6.5H0v-3h3.5z"),
    "x": ("X", "M2.2 0L5 2.8 7.8 0 10 2.2 7.2 5 10 7.8 7.8 10 5 7.2 2.2 10 0 7.8 2.8 5 0 2.2z"),
    "star": ("*", "M5 0l1.5 3.3 3.5.4-2.6 2.4.7 3.6L5 7.9 1.9 9.7l.7-3.6L0 3.7l3.5-.4z"),
}
"""Plotly's names of the markers, with matplotlib's, and their outlines in a box of 10 by 10, which the page draws."""
COLOURS = {
    "blue": ("#0072b2", "#4aa8e8"),
    "vermilion": ("#d55e00", "#ff8b47"),
    "green": ("#008f68", "#35c79c"),
    "pink": ("#c2649a", "#e79cc6"),
    "orange": ("#b87d00", "#f0bd4e"),
    "sky": ("#2d8fce", "#9ad4fa"),
    "purple": ("#6c4fa3", "#b59be6"),
    "brown": ("#7d6340", "#c4a97e"),
    "crimson": ("#a3214d", "#f2799c"),
    "grey": ("#6e757d", "#9aa3ad"),
    "light grey": ("#8a9097", "#7c858f"),
    "dark grey": ("#4b5157", "#c3c9d0"),
    "darkest grey": ("#2f3439", "#e0e4e8"),
    "teal": ("#007d84", "#4fd0d6"),
    "olive": ("#727200", "#cfcf55"),
    "navy": ("#31478f", "#8fa6f0"),
    "rust": ("#8c3b1d", "#e0906f"),
}
"""On a light and on a dark ground. The first six are Okabe and Ito's, which colour-blind people can tell apart; a few
are darkened so that every one has a contrast of 3:1 with its ground."""
STRANGERS = ("teal", "olive", "navy", "rust")
"""Colours of methods that have chosen none."""


@dataclass(frozen=True)
class Style:
    """A colour on a light and on a dark ground, and a marker by Plotly's name."""

    light: str
    dark: str
    marker: str

    @property
    def matplotlib(self) -> str:
        """The marker as matplotlib names it."""
        return MARKERS[self.marker][0]

    @property
    def outline(self) -> str:
        """The marker as the path of an SVG, in a box of 10 by 10."""
        return MARKERS[self.marker][1]


def style_of(method: str) -> Style:
    """The style of a method, or of a pipeline whose methods are joined by `+`."""
    stages = method.split("+")
    leading = next((stage for stage in stages if not _is_control(stage)), stages[0])
    others = [stage for stage in stages if stage != leading]
    colour, marker = _by_name(leading)
    if len(stages) > 2 or (len(stages) == 2 and not others):
        marker = _drawn(method, tuple(MARKERS))
    elif others:
        marker = _by_name(others[-1])[1]
    return Style(*COLOURS[colour], marker)


def _by_name(stage: str) -> tuple[str, str]:
    chosen = installed()[stage].style if stage in installed() else []
    if len(chosen) == 2 and chosen[0] in COLOURS and chosen[1] in MARKERS:
        return chosen[0], chosen[1]
    return _drawn(stage, STRANGERS), _drawn(stage, tuple(MARKERS))


def _is_control(stage: str) -> bool:
    return stage in installed() and installed()[stage].control


@cache
def installed() -> Mapping[str, Declared]:
    """What the installed methods declare; read from the cache, without torch, if it was read before."""
    from bench.plugins import declared

    return declared.methods()


def _drawn(name: str, choices: tuple[str, ...]) -> str:
    """One of the choices, the same for a name at every time and on every machine."""
    return choices[int(sha256(name.encode()).hexdigest(), 16) % len(choices)]
