"""Many runs: which ones a grid is made of, and what came of them."""
