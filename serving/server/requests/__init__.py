"""One request: its limits, queue and batch, and TensorFlow Serving's methods."""
