"""Stands in for timm in studies whose networks use none of it: see ``place.py``."""
