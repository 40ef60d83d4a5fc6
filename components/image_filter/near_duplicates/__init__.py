"""Near-duplicates: copies saved again, shrunk, brightened, cropped or mirrored.

`hashing` gives an image 256 bits, `search` finds groups of near ones among all images without
comparing all pairs, `groups` decides what becomes of each. Pure functions on small records; the
filter runs them as Beam steps.
"""
