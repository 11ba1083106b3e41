"""Comparisons: grids of runs at aligned budgets, tuned alike, run here or on a cluster."""
