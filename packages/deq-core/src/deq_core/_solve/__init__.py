"""The solve: one loop that evaluates f, judges each sample, and lets a solver propose the next state."""
