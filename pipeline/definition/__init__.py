"""What a run is: its plan, and the graph of TFX that follows from it."""
