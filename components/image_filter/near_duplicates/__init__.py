"""Near-duplicates: copies saved again, shrunk, brightened, cropped or mirrored.

`hashing` gives a picture 256 bits, `search` finds groups of near ones among all pictures without
comparing all pairs, `groups` decides what becomes of each. Pure functions on small records; the
filter runs them as Beam steps.
"""
