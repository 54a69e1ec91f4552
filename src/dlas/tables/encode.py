"""Tables as CSV, JSON and Parquet; what was not measured is empty, null and null."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def as_csv(frame: pd.DataFrame) -> str:
    """Return RFC 4180 text: a header, CRLF line ends, quotes where needed, empty for missing."""
    text: str = frame.to_csv(index=False, lineterminator="\r\n")
    return text


def as_json(frame: pd.DataFrame) -> str:
    """Return a JSON list with an object per row; numbers in full, null for missing."""
    records = [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    return json.dumps(records, allow_nan=False, ensure_ascii=False, indent=1)


def as_parquet(frame: pd.DataFrame) -> bytes:
    """Return the bytes of a Parquet file; text columns are strings even where all is missing."""
    texts = {name: "string" for name in frame.columns if frame[name].dtype == "object"}
    buffer = io.BytesIO()
    frame.astype(texts).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    import pandas as pd

    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
