"""Training of flow networks: by a recipe, on pairs of your own, and of the shipped network."""
