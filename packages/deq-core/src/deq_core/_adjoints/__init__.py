"""Gradients through a solve."""
