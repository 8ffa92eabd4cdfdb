"""How MLflow's UI (3.x) shows the board: saved views with columns, filters and charts, as tags of the experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.leaderboard.grouping import TASK, task_title
from bench.system.text import one_line
from bench.tracking import runs
from bench.tracking.text import LONGEST

if TYPE_CHECKING:
    from pandas import DataFrame

EXPERIMENT = "cnn-compression-bench"
PAGE = "leaderboard.html"
OPENING = "CNN compression methods compared."
"""The start of our description. A description that starts with another text is a user's, and is kept."""
DESCRIPTION = """\
{opening} [**Open the page**: charts, ranks, answers in words]({board})

[Leaderboard]({table}) | [charts]({charts}) | [every seed]({seeds})

A line is one setting on one task: the mean over its seeds, which are the runs beneath it.

- `top1`, `top5`, `agreement` with the dense model: fractions of the test set. `top1_drop`: the loss against it.
  `top1_ci95`: half the 95% interval of the mean over seeds; settings whose intervals overlap may be equally good.
- `compression_ratio` (bytes of files), `macs_ratio`, `latency_speedup`: dense / compressed, so **higher is better**.
- `pareto`: no other setting of the task is better in both top-1 and size.
- `dense` is the uncompressed model. `random` prunes filters at random; a useful method is better than that.
- Only runs of one model, dataset and weights may be ranked together: every task has a saved view (top right).
  `budget_epochs` is what a setting could spend. By hand:
  `tags.kind = "setting" and tags.model = "resnet20" and tags.dataset = "fashion-mnist"`.
"""

# Columns, and their widths in pixels. Those of `FIRST` fit a screen of 1440 pixels beside MLflow's menu: a reader
# ranks by them, and scrolls for the others. They do not fit beside the panel of MLflow's assistant, which opens by
# itself at a reader's first visit and which a server cannot keep closed.
NAME = {"attributes.`Run Name`": 390}
FIRST = {
    "metrics.`top1`": 90,
    "metrics.`top1_ci95`": 100,
    "metrics.`compression_ratio`": 145,
    "metrics.`macs_ratio`": 105,
    "metrics.`latency_speedup`": 135,
}
FURTHER = {
    "metrics.`latency_speedup_ci95`": 160,
    "metrics.`top1_drop`": 95,
    "metrics.`seeds`": 60,
    "tags.`pareto`": 70,
}
WHERE = {"tags.`model`": 90, "tags.`dataset`": 110}
WHEN = {"runDateAndNestInfo": 125}
"""Always the second column."""

NO_FILTER = {
    "searchFilter": "",
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
}
SAVED, TASK_VIEW = "mlflow.sharedViewState.", "task-"
SETTINGS = 'tags.kind = "setting"'
BEST_FIRST = {"orderByKey": "metrics.`top1`", "orderByAsc": False}
# MLflow nests runs in this order only.
NESTED = {"orderByKey": "attributes.start_time", "orderByAsc": False}
SECTION = "trade-offs"
PAIRS = [("compression_ratio", "top1"), ("macs_ratio", "top1"), ("latency_speedup", "top1")]
# Bars start at 0, which makes accuracies look alike, so the drop is shown.
BARS = ["top1_drop", "compression_ratio", "latency_speedup"]
COLUMNS, HEIGHT = 2, 400
"""Charts side by side, wide enough for their titles, and their height in pixels."""


def address(experiment: str, view: str = "leaderboard", charts: bool = False) -> str:
    """The page of a saved view, relative to the server's address and a slash."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={view}{mode}"


def views_of_tasks(experiment: str, tags: dict[str, str]) -> dict[str, str]:
    """The page of each task's view, by the task's title; without views that were edited and cannot be read."""
    views = {name.removeprefix(SAVED): view for name, view in tags.items() if name.startswith(SAVED + TASK_VIEW)}
    titles = {key: _title(view) for key, view in views.items()}
    return {one_line(title): address(experiment, key) for key, title in titles.items() if title}


def _title(view: str) -> str:
    try:
        return str(json.loads(view)["name"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _task(task: dict[str, Any]) -> tuple[str, str]:
    """The key and the title of a task's view."""
    title = task_title(task[name] for name in TASK)
    return f"{TASK_VIEW}{hashlib.sha256(title.encode()).hexdigest()[:8]}", title


def experiment_tags(experiment: str, board: str, summary: DataFrame) -> dict[str, str]:
    """Tags that make MLflow's UI show this experiment as training runs, with the compared figures in columns.

    A view that is too long for a tag, such as that of a dataset with a very long name, is left out.
    """
    links = {
        "table": address(experiment),
        "charts": address(experiment, charts=True),
        "seeds": address(experiment, "seeds"),
        "board": runs.address(experiment, board, PAGE),
    }
    views = {f"{SAVED}{key}": json.dumps(view) for key, view in _views(summary)}
    views = {key: view for key, view in views.items() if len(view) <= LONGEST}
    note = DESCRIPTION.format(opening=OPENING, **links)
    return {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": note} | views


def _views(summary: DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "leaderboard", _view("Leaderboard", {**NAME, **FIRST, **WHERE, **FURTHER}, SETTINGS, BEST_FIRST)
    yield "seeds", _view("Every seed, beneath its setting", {**NAME, **FIRST, **WHERE, **FURTHER}, "", NESTED)
    for row in summary[TASK].drop_duplicates().to_dict("records"):
        task = {str(name): value for name, value in row.items()}
        key, title = _task(task)
        same = " and ".join([SETTINGS, *(f"tags.{name} = {_quoted(value)}" for name, value in task.items())])
        yield key, _view(title, {**NAME, **FIRST, **FURTHER}, same, BEST_FIRST)


def _quoted(value: object) -> str:
    """A value in MLflow's filter language, which has no escapes."""
    return f"'{value}'" if '"' in str(value) else f'"{value}"'


def _view(name: str, columns: dict[str, int], condition: str, order: dict[str, object]) -> dict[str, Any]:
    names = [*NAME, *WHEN, *(column for column in columns if column not in NAME)]
    shown = {"selectedColumns": names, "columnOrder": names, "columnWidths": columns | WHEN}
    filters = {**NO_FILTER, "searchFilter": condition, **order}
    # Charts have the width of the screen: the list of runs beside them would leave no room for their titles.
    state = {**filters, **shown, "runsHiddenMode": "SHOWALL", "runListHidden": True, **_charts()}
    return {"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}


def _charts() -> dict[str, Any]:
    """Scatter charts of accuracy over each gain, then bar charts; MLflow adds bars of every figure by itself."""
    cards: list[dict[str, Any]] = [
        {"type": "SCATTER", "xaxis": _axis(x), "yaxis": _axis(y), "runsCountToCompare": 100} for x, y in PAIRS
    ]
    cards += [{"type": "BAR", "metricKey": name, "runsCountToCompare": 20} for name in BARS]
    for number, card in enumerate(cards):
        card |= {"uuid": f"ours-{number}", "metricSectionId": SECTION, "deleted": False, "isGenerated": False}
    section = {"uuid": SECTION, "name": "Trade-offs", "display": True, "isReordered": False}
    section |= {"columns": COLUMNS, "cardHeight": HEIGHT}
    return {"compareRunCharts": cards, "compareRunSections": [section], "isAccordionReordered": True}


def _axis(name: str) -> dict[str, str]:
    return {"key": name, "type": "METRIC"}
