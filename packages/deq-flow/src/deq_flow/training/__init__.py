"""Objective of the training of flow networks."""
