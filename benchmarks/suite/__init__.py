"""Measuring: the same work done here and by what one would use instead, side by side; ratios are the result."""
