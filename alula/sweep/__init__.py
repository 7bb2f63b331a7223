"""Many runs of a preset: seeds, grids and populations, and the table of them."""
