"""Evaluation of networks and baselines on sets with ground truth and on videos."""
