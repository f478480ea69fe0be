"""What Snakemake and DVC share: one workspace, one state, one check of the parameters."""
