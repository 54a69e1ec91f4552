"""Claims and a table come in, a verdict on each of them with its cells goes out."""

from dlas.analyze.claims.gauges import Basis
from dlas.analyze.claims.hypothesis import Claim, ClaimsFile
from dlas.analyze.claims.judge import Judged, judge
from dlas.analyze.claims.spoken import as_json, as_markdown, as_text

__all__ = [
    "Basis",
    "Claim",
    "ClaimsFile",
    "Judged",
    "as_json",
    "as_markdown",
    "as_text",
    "judge",
]
