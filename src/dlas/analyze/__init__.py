"""Understanding a table of stacks: effects, interactions, flips, break-evens, findings.

Pure functions, table in, table out; ``docs/analysis.md`` says what each part means.
"""

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.estimate.load import from_study, load_pair, load_table
from dlas.analyze.estimate.table import Table
from dlas.analyze.tell.compare import Comparison, compare, render_comparison
from dlas.analyze.tell.findings import findings
from dlas.analyze.tell.render import render_text
from dlas.analyze.whole import analyze

__all__ = [
    "Analysis",
    "Comparison",
    "Finding",
    "Table",
    "analyze",
    "compare",
    "findings",
    "from_study",
    "load_pair",
    "load_table",
    "render_comparison",
    "render_text",
]
