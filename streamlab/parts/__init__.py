"""Parts that strategies share: imported by name, composed, and listed in the docs' reference."""
