"""Compares the requests that a served model received with the data it was trained on.

`requests` counts the answers in the server's log and measures logged images as ingestion does, and
`comparison` compares both with the training data under the limits of the data gate. None of them is
a TFX component.
"""
