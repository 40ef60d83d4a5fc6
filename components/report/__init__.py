"""The run's page: facts read from artifacts, drawn into one self-contained HTML file.

Nothing is imported here: facts need TensorFlow, drawing needs matplotlib, the component TFX.
"""
