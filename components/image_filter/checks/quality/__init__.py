"""Checks of what a picture looks like: each compares one measurement with a threshold.

The measurements are those of CleanVision, computed once, from the pixels that the serving op
decodes (`imgpipe.components.image_file.measurements`); a check is a small module, registered in
`imgpipe.components.image_filter.checks`.
"""
