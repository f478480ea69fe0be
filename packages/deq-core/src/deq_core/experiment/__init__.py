"""What every experiment of the repository shares: configuration, training, tracking, results and figures.

It may import third-party packages; the solvers above it may not, and never import it.
"""
