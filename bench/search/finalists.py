"""Which of the settings that a search has tried are confirmed on test images."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.store import Store
from bench.search.candidates import Tried
from bench.search.goal import Goal
from bench.search.verdict import lost

MOST = 2


def finalists(tried: Sequence[Tried], goal: Goal, store: Store) -> list[Tried]:
    """The best that keeps the bounds on the held-out images, and the best that surely does.

    The first was chosen among many, so that it may have been lucky. The second keeps the bound on lost top-1 with its
    whole 95% interval. If nothing keeps the bounds, what comes nearest. `tried` begins with the best.
    """
    keeping = [each for each in tried if goal.keeps(each.record)]
    if not keeping:
        return list(tried[:1])
    best, *others = sorted(keeping, key=lambda each: -goal.worth(each.record))
    sure = [each for each in others if _surely_keeps(each, goal, store)]
    return [best, *(sure or others)][:MOST] if not _surely_keeps(best, goal, store) else [best, *others[:1]]


def _surely_keeps(tried: Tried, goal: Goal, store: Store) -> bool:
    limits = [bound.limit for bound in goal.bounds if bound.figure.field == "top1_drop"]
    return not limits or lost([tried.record], store).high <= min(limits)
