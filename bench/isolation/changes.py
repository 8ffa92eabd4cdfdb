"""What a trial changed outside its own network, and whether it could be put back."""

from __future__ import annotations

from dataclasses import dataclass

from bench.system.text import listed

SHOWN = 8
"""Changes that a message names, at most."""


@dataclass(frozen=True)
class Changes:
    """Names of what was changed and put back, and of what could not be put back."""

    restored: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, restored: bool) -> Changes:
        return cls(restored=(name,)) if restored else cls(lost=(name,))

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.restored + other.restored, self.lost + other.lost)

    def __bool__(self) -> bool:
        return bool(self.restored or self.lost)

    def __str__(self) -> str:
        """One line: what was changed, and what follows for other trials."""
        parts = []
        if self.restored:
            parts.append(f"{listed(self.restored, SHOWN)} changed and put back")
        if self.lost:
            parts.append(
                f"{listed(self.lost, SHOWN)} changed for good, so nothing more can be measured in this process"
            )
        return "; ".join(parts)

    def listed(self) -> str:
        """One line for each change."""
        lines = [f"changed and put back: {name}" for name in self.restored]
        return "".join(f"{line}\n" for line in [*lines, *(f"changed for good: {name}" for name in self.lost)])
