"""Studies: what is asked of models, each in a module with its parameters; `reports` says what came out."""
