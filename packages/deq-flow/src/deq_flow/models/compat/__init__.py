"""What the released checkpoints and programs need: their names and shapes, their flags, and the states they return."""
