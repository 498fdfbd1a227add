"""From the runs of a sweep to cells, comparisons and what must be said about them."""
