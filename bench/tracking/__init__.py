"""Delivers records to MLflow, each exactly once, and runs its UI. Only this package imports mlflow, when needed.

`delivery` sends records during a run, and `tracker` delivers them. `board` adds a run for every setting and one for the
whole board. `runs` defines the content of each run, `reading` reads records back, `text` makes untrusted text safe, and
`view` defines how MLflow shows the runs. `address`, `server` and `experiment` connect to MLflow, `interrupts` keeps
Ctrl-C from being lost there, and `ui` starts MLflow's own UI.
"""

from bench.tracking.address import is_server, shown, tracking_uri
from bench.tracking.tracker import Tracker
from bench.tracking.ui import serve
from bench.tracking.view import EXPERIMENT

__all__ = ["EXPERIMENT", "Tracker", "is_server", "serve", "shown", "tracking_uri"]
