"""Views of a running sweep: in the terminal and as a page."""
