"""What a run is: the names of its components, its plan, and the graph of TFX."""
