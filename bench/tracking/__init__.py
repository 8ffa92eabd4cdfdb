"""Records to MLflow, each exactly once, and its UI. The one package that imports mlflow, and only when it is needed.

What MLflow holds is a run for every seed and above them a run for every setting (`tracker` keeps them, `runs` says what
is in them), arranged by a saved view and a page (`view`), at an address (`server`), which `ui` opens.
"""

from bench.tracking.server import database_missing, tracking_uri, without_password
from bench.tracking.tracker import Tracker
from bench.tracking.ui import serve
from bench.tracking.view import EXPERIMENT

__all__ = ["EXPERIMENT", "Tracker", "database_missing", "serve", "tracking_uri", "without_password"]
