"""A sweep while it runs: in the terminal and as a page."""
