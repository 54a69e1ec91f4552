"""The parts of an analysis in, sentences and text out."""
