"""The images that a configuration names: their source, and what a check of them finds."""
