"""What all may use, and what knows nothing of the rest."""
