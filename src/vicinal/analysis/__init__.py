"""Analysis of runs: cells, comparisons, statistics and caveats."""
