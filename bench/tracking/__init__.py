"""Records to MLflow, each exactly once, and its UI. The one package that imports mlflow, and only when it is needed.

`tracker` delivers a run for every record; `board` puts above them a run for every setting and one for the whole board;
`runs` says what is written in each, `view` and `page` how MLflow shows them. `experiment` and `server` are the way to
MLflow, and `ui` opens its own UI.
"""

from bench.tracking.server import database_missing, tracking_uri, without_password
from bench.tracking.tracker import Tracker
from bench.tracking.ui import serve
from bench.tracking.view import EXPERIMENT

__all__ = ["EXPERIMENT", "Tracker", "database_missing", "serve", "tracking_uri", "without_password"]
