"""The profile paper: operations behind its cost, and miniatures and reductions for its rehearsal."""
