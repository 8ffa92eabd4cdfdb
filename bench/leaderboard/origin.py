"""When and on what a task's figures were measured, in words. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.system.text import counted

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_LISTED = 4
LIBRARIES = ("torch", "timm")
"""Whose versions are told."""


def origin(rows: DataFrame, records: DataFrame | None = None) -> str:
    """How much was measured and, if the records are known, when and with which versions; for the rows of one task.

    The title of the task's board says on which device, and the budget if there is only one.
    """
    told = [counted(len(rows), "setting", "settings")]
    budgets = sorted(set(rows["budget_epochs"]))
    told += [f"budgets from {budgets[0]:g} to {budgets[-1]:g} epochs"] if len(budgets) > 1 else []
    if records is not None and not records.empty:
        told += [
            f"{counted(len(records), 'trial', 'trials')} with up to {_seeds(records)}",
            f"measured {_days(records)}",
        ]
        told += _versions(records)
    return ", ".join(told) + "."


def _seeds(records: DataFrame) -> str:
    return counted(records["seed"].nunique(), "seed", "seeds")


def _days(records: DataFrame) -> str:
    """`on 2026-11-27`; in UTC."""
    days = sorted({str(start)[:10] for start in records["started_at"]})
    return f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"


def _versions(records: DataFrame) -> list[str]:
    told = []
    for library in LIBRARIES:
        known = sorted({of[library] for of in records["versions"] if isinstance(of, dict) and library in of})
        told += [f"{library} {_listed(known)}"] if known else []
    return told


def _listed(values: list[str]) -> str:
    more = len(values) - MOST_LISTED
    return ", ".join(map(str, values[:MOST_LISTED])) + (f" and {more} more" if more > 0 else "")
