"""Benchmarks of solvers and gradients."""
