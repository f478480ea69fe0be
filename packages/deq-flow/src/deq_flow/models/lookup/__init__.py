"""Correlation windows, read from a stored volume or computed on the fly."""
