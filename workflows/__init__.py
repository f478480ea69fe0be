"""The pipeline, run by Snakemake and DVC together: its graph, state, parameters, and publication of results."""
