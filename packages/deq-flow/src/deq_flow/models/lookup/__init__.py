"""Correlation windows: read from a stored volume, or computed when they are read."""
