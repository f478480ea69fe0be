"""Studies: what is measured case by case (`stage`), and what is told of all cases together (`report`)."""
