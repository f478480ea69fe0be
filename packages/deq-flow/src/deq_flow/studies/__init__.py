"""Studies of models, each in a module with its parameters; `reports` has their tables and figures."""
