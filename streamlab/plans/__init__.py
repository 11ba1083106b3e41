"""Plans: a whole future as indices, of streams and of episodes; no pixels and no model in them."""
