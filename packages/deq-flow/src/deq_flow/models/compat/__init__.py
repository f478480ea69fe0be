"""Compatibility with released checkpoints and programs: their names and shapes, their flags, and their numerics."""
