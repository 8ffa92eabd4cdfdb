"""Records delivered to MLflow, each exactly once, and MLflow's UI. The one package that imports mlflow, when needed.

`delivery` sends records during a run, `tracker` delivers them; `board` adds a run for every setting and one for the
whole board. `runs` defines what each run holds, `reading` reads records back, `text` makes strangers' text harmless,
`view` defines how MLflow shows the runs. `address`, `server` and `experiment` are the way to MLflow, `interrupts` keeps
Ctrl-C from being lost there, and `ui` opens MLflow's own UI.
"""

from bench.tracking.address import is_server, shown, tracking_uri
from bench.tracking.tracker import Tracker
from bench.tracking.ui import serve
from bench.tracking.view import EXPERIMENT

__all__ = ["EXPERIMENT", "Tracker", "is_server", "serve", "shown", "tracking_uri"]
