"""The report of a run: one self-contained HTML page that shows facts read from artifacts.

Nothing is imported here, because facts need TensorFlow, plots matplotlib, and the component TFX.
"""
