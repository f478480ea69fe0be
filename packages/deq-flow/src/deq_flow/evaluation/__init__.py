"""Measuring: flow on the labelled sets and on videos, of networks and of what needs no training."""
