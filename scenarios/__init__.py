"""Built-in scenarios: each turns a source's labels, options and a seed into a stream plan."""
