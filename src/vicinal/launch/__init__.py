"""Many runs on one machine: the runs of a grid, and the workers that train them."""
