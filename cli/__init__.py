"""The terminal front end: it shows what the kernel does, and decides nothing."""
