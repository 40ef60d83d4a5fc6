"""Compares the requests that a served model received with the data it was trained on.

`requests` counts the answers in the server's log, `images` measures logged images as ingestion
does, `comparison` compares both with the training data under the limits of the data gate, and
`examination` does all of it for `imgpipe drift`. None of them is a TFX component.
"""
