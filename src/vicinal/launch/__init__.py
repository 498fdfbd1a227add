"""Many runs on one machine: which ones a grid is made of, and the workers that do them."""
