"""The versions of a model: which are served, and how one is loaded and unloaded."""
