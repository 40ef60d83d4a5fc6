"""The runner of the graph on this machine."""
