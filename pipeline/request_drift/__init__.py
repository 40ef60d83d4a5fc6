"""Compares the requests that a served model received with the data it was trained on.

`log` reads the server's request log and counts the answers, `reference` reads the statistics and
predictions of a blessed version, `images` measures logged images as ingestion does, and
`comparison` compares both sides under the limits of the data gate. `imgpipe drift` calls these
modules; none of them is a TFX component.
"""
