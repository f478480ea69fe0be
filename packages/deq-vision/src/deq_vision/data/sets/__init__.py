"""Readers of the published data sets, one module each; the mini sets have the same layouts."""
