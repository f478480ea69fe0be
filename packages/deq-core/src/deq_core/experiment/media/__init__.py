"""Reads videos and images, writes videos."""
