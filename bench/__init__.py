"""`make bench`: what durability costs, beside the same work without it, in the same run on the same servers."""
