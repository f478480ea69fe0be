"""Measurements of the solvers and gradients."""
