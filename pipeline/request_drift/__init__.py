"""What a served model is asked, compared with what it was trained on.

`log` reads the server's request log, `blessed` what a version was blessed with, `images` measures
logged images as ingestion does, `comparing` sets the two side by side, `uncertain` finds and
writes the images that the model knew least about. No TFX component: ``imgpipe drift`` calls it.
"""
