"""The solve: a loop that evaluates f, checks each sample for convergence and asks the solver for the next state."""
