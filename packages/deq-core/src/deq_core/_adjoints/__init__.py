"""How gradients pass a solve."""
