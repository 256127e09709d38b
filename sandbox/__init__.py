"""Local stand-ins for the two companies that a laptop cannot call. Strangers: they import nothing of the product."""
