"""A board or records for other programs: CSV, JSON, Parquet."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

NESTED = ["versions", "config", "notes"]


def to_csv(frame: DataFrame) -> str:
    """Records or a summary: plain numbers, nothing where there was no measurement; nested fields are left out."""
    return frame.drop(columns=NESTED, errors="ignore").to_csv(index=False, float_format="%.10g", lineterminator="\n")


def to_json(frame: DataFrame) -> str:
    """Records or a summary as a list of objects, with null where there was no measurement."""
    rows = [{name: plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_parquet(frame: DataFrame) -> bytes:
    """Records or a summary, null where there was no measurement; nested fields as texts of JSON."""
    nested = [name for name in NESTED if name in frame]
    buffer = io.BytesIO()
    frame.assign(**{name: frame[name].map(json.dumps) for name in nested}).to_parquet(
        buffer, engine="pyarrow", index=False
    )
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """As JSON knows it; 10 digits, so that an average does not end in the noise of its last bit."""
    import pandas

    if isinstance(value, (dict, list)):
        return value
    if value is None or pandas.isna(value):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.10g}")
    return value
