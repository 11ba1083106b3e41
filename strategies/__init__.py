"""Built-in strategies: one file a method, to be read beside its paper."""
