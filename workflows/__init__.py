"""What Snakemake and DVC share: one workspace, one state, one check of the parameters. Standard library only,
except for `parameters`, which needs jsonschema, a dependency of Snakemake."""
