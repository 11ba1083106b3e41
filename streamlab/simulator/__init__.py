"""The simulator: short drivers that serve a plan to a strategy and tell what happened as events."""
