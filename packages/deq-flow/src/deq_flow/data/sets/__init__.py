"""Readers and descriptions of the data sets."""
