"""Exports of a trained classifier: SavedModel, LiteRT, ONNX and Keras files."""
