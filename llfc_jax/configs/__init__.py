"""Configurations: `default.py` has every field, the others change a few."""
