"""Studies of the models, each a module with its parameters; `reports` has the pages made from them."""
