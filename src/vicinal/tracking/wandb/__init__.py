"""Weights & Biases, in a process of its own."""
