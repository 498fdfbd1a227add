"""A run on disk: who it is, where it lives, what it was made with and what came of it."""
