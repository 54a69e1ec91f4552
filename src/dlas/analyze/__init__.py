"""Understanding a table of stacks: effects, interactions, flips, break-evens, findings.

Pure functions, table in, table out; ``docs/analysis.md`` says what each part means.
"""

from dlas.analyze.compare import Comparison, compare, render_comparison
from dlas.analyze.findings import findings
from dlas.analyze.load import from_study, load_table
from dlas.analyze.render import render_text
from dlas.analyze.result import Analysis, Finding
from dlas.analyze.run import analyze
from dlas.analyze.table import Table

__all__ = [
    "Analysis",
    "Comparison",
    "Finding",
    "Table",
    "analyze",
    "compare",
    "findings",
    "from_study",
    "load_table",
    "render_comparison",
    "render_text",
]
