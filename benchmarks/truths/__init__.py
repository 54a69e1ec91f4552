"""The parts of ``truth.py``: worlds whose answers are known, and what is asked of the analysis."""
