"""Console output of the programs."""
