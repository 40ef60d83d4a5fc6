"""What runs a version: a TensorFlow session or LiteRT, after a check of its graph."""
