"""Compares the requests that a served model received with the data it was trained on.

`log` reads the server's request log, `reference` reads the statistics and predictions of a blessed
version, `survey` counts the answers, `images` measures logged images as ingestion does,
`comparison` compares both sides under the limits of the data gate, and `uncertain_images` writes
the images that the model was least certain about. ``imgpipe drift`` calls these modules; none of
them is a TFX component.
"""
