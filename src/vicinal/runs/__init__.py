"""A run on disk: its identity, its folder and files, and what it was made with."""
