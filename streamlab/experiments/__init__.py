"""Experiments: what is asked for, resolved into cells, run anywhere, and read again."""
