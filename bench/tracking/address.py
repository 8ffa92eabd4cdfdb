"""Addresses of MLflow: where the records of a store are delivered, and how an address is shown without secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote, urlsplit

from bench.system.errors import BenchError

if TYPE_CHECKING:
    from sqlalchemy import URL

VARIABLE = "MLFLOW_TRACKING_URI"
EXAMPLE = "use a database such as sqlite:///mlflow.db, or a server's http address"
SPECIAL = frozenset("%?")
"""Characters with a special meaning in the path of a database address."""
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Environment variables whose values are never shown."""


def tracking_uri(root: Path) -> str:
    """The address that records of the store at `root` go to: `MLFLOW_TRACKING_URI`, else a database in the store.

    A relative path in the variable starts at the current folder, as in MLflow. It is returned absolute, because the UI
    runs in another folder. Raises BenchError for an address that cannot hold the records.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return default_uri(root)
    scheme = given.partition(":")[0]
    if scheme == "databricks":
        _refuse(given, f"Databricks names experiments by workspace paths, which is not supported; {EXAMPLE}")
    if scheme.partition("+")[0] == "sqlite":
        return _absolute_database(given)
    if scheme == "file" or ":" not in given:
        folder = unquote(urlsplit(given).path) if scheme == "file" else given
        return Path(folder).absolute().as_uri()
    return given


def default_uri(root: Path) -> str:
    """The address of the database in the store at `root`."""
    return database_uri(root.resolve() / "mlflow.db")


def database_uri(database: Path) -> str:
    """The address of an SQLite database. Raises BenchError for a path that SQLAlchemy cannot open."""
    path = database.as_posix()
    if not SPECIAL & set(path):
        return f"sqlite:///{path}"
    from sqlalchemy import URL, make_url

    # With the driver's name, because after a plain `sqlite:///` MLflow creates the folder by its still quoted name.
    uri = URL.create("sqlite+pysqlite", database=path).render_as_string()
    if make_url(uri).database != path:
        raise BenchError(f"{path}: SQLAlchemy cannot open a path with a question mark; choose another folder")
    return uri


def database_path(uri: str) -> Path | None:
    """The file of an SQLite database; None for every other address."""
    if not uri.startswith("sqlite"):
        return None
    path = uri.partition(":///")[2]
    return Path(_sqlite_path(_parsed(uri)) if SPECIAL & set(path) else path)


def is_server(uri: str) -> bool:
    """Whether the address is that of a server, where MLflow already runs."""
    return uri.startswith(("http://", "https://"))


def _absolute_database(given: str) -> str:
    url = _parsed(given)
    path = _sqlite_path(url)
    if url.host:
        _refuse(given, "a path follows three slashes, as in sqlite:///mlflow.db")
    if path in ("", ":memory:") or url.query.get("mode") == "memory":
        _refuse(given, f"a database in memory is lost when the command ends; {EXAMPLE}")
    if os.path.isabs(path):
        return given
    absolute = os.path.abspath(path)
    if "uri" in url.query:
        return url.set(database=f"file:{quote(absolute)}").render_as_string()
    query = given.partition("?")[2]
    return database_uri(Path(absolute)) + (f"?{query}" if query else "")


def _parsed(uri: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri)
    except (ArgumentError, ValueError):
        _refuse(uri, f"not an address; {EXAMPLE}")


def _sqlite_path(url: URL) -> str:
    """The path in the file system; SQLite reads a name that begins with `file:` as an address."""
    name = url.database or ""
    return unquote(urlsplit(name).path) if name.startswith("file:") else name


def _refuse(uri: str, problem: str) -> NoReturn:
    raise BenchError(f"{VARIABLE} {shown(uri)}: {problem}")


def without_password(text: str) -> str:
    """A text without the user names and passwords of the addresses in it."""
    for secret in filter(None, map(os.environ.get, SECRETS)):
        text = text.replace(secret, "***")
    # Up to the last @ of the word, because unquoted passwords may hold a slash or an @.
    text = re.sub(r"//\S*@", "//", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s;'\"]+", r"\1***", text)


def shown(uri: str) -> str:
    """An address without user name and password, whatever characters the password holds."""
    return without_password(re.sub("//.*@", "//", uri))


def without_secrets(text: str, uri: str) -> str:
    """A message about `uri` without its password, also where the password is quoted by itself."""
    password = re.search("//[^:/]*:(.*)@", uri)
    text = text.replace(uri, shown(uri))
    for secret in {password[1], unquote(password[1])} if password and password[1] else ():
        text = text.replace(secret, "***")
    return without_password(text)
