"""Local stand-ins for the two companies that a laptop cannot call. They import nothing of the product: they stand for strangers."""
