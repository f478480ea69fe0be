"""Functions of coordinates as equilibria: a fitted sine, and images as implicit neural representations."""
