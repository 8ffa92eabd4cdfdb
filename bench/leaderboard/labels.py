"""Where labels of points go, so that none covers a point or another label. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 24
"""Characters of a setting that is written beside its point; of a longer one, the method is written."""
GAP = 7.0
"""Pixels between the centre of a point and its label."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


def text_of(setting: str, method: str) -> str:
    """What is written beside a point."""
    return setting if len(setting) <= LONGEST else method


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    marks: Sequence[tuple[float, float]],
    frame: Box,
) -> list[Box | None]:
    """A box for the label of each point, or None for a label that would cover something; all in pixels.

    `points` are to be labelled with texts of the given `sizes` (width, height); `marks` are all points that are drawn.
    The first point has the first choice. Each label is tried beside its point and, if there is no room, further above
    and below, where it needs a line to its point (see `is_far`).
    """
    taken = [Box(x - GAP / 2, y - GAP / 2, x + GAP / 2, y + GAP / 2) for x, y in marks]
    placed: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        tried = (box for box in _around(point, size) if box.within(frame))
        box = next((box for box in tried if not any(box.meets(other) for other in taken)), None)
        placed.append(box)
        taken += [box] if box else []
    return placed


def is_far(box: Box, point: tuple[float, float]) -> bool:
    """Whether a label stands so far above or below its point that a line should lead there."""
    return not box.bottom - 2 * GAP <= point[1] <= box.top + 2 * GAP


def _around(point: tuple[float, float], size: tuple[float, float]) -> list[Box]:
    (x, y), (width, height) = point, size
    corners = [
        (x + GAP, y + GAP / 2),
        (x + GAP, y - GAP / 2 - height),
        (x - GAP - width, y + GAP / 2),
        (x - GAP - width, y - GAP / 2 - height),
        (x + GAP, y - height / 2),
        (x - width / 2, y + GAP),
        (x - width / 2, y - GAP - height),
        (x - GAP - width, y - height / 2),
        *((left, y + GAP + step * height) for step in (1, 2, 3) for left in (x + GAP, x - GAP - width)),
        *((left, y - GAP - (step + 1) * height) for step in (1, 2, 3) for left in (x + GAP, x - GAP - width)),
    ]
    return [Box(left, bottom, left + width, bottom + height) for left, bottom in corners]
