"""Readers of the published data sets, one module a set; the mini sets have their layouts."""
