"""What Snakemake and DVC share: the graph of dvc.yaml, parameters, commands, the cache, and the lock of a checkout."""
