"""Reading and writing files: atomically, within bounds, with folders taken literally."""
