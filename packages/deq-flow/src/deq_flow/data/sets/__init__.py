"""Readers of the published data sets, each with what else is known of its set."""
