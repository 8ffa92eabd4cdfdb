"""A board or records for other programs: CSV, JSON, Parquet.

Figures are written as plain numbers. JSON and Parquet hold any text. CSV is made safe for spreadsheets, which would run
text that begins with `=`.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from bench.system.text import encoded, printable

if TYPE_CHECKING:
    from pandas import DataFrame

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that begin a formula in a spreadsheet."""
NESTED = ["versions", "config", "notes"]


def to_csv(frame: DataFrame) -> str:
    """Records or a summary as CSV: plain numbers, empty where nothing was measured; nested fields are left out."""
    frame = for_spreadsheets(frame.drop(columns=NESTED, errors="ignore"))
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def for_spreadsheets(frame: DataFrame) -> DataFrame:
    """The frame with its texts changed so that a spreadsheet shows and does not run them; figures stay as they are."""
    from pandas.api.types import is_numeric_dtype

    texts = [name for name in frame if not is_numeric_dtype(frame[name])]
    return frame.assign(**{str(name): frame[name].map(_cell, na_action="ignore") for name in texts})


def _cell(value: Any) -> Any:
    """The value, with an apostrophe before text that would be a formula, as spreadsheets do it themselves."""
    if not isinstance(value, str):
        return value
    return printable("'" + value if value.startswith(FORMULA) else value, keep="\n\t")


def to_json(frame: DataFrame) -> str:
    """Records or a summary as a JSON list of objects, with null where nothing was measured."""
    rows = [{name: plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_parquet(frame: DataFrame) -> bytes:
    """Records or a summary as Parquet, with null where nothing was measured; nested fields are JSON text."""
    from pandas.api.types import is_object_dtype

    texts = {
        str(name): frame[name].map(json.dumps if name in NESTED else _storable).astype("object")
        for name in frame
        if is_object_dtype(frame[name])
    }
    buffer = io.BytesIO()
    frame.assign(**texts).to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _storable(value: Any) -> Any:
    return encoded(value).decode() if isinstance(value, str) else value


def plain(value: Any) -> Any:
    """The value as a type that JSON has; floats with 10 digits, so that a mean does not end in rounding noise."""
    import pandas

    if isinstance(value, (dict, list)):
        return value
    if value is None or pandas.isna(value):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.10g}")
    return value
