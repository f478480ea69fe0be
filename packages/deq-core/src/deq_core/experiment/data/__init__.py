"""Data: reading, checking and batching of files."""
