"""Near-duplicates: copies that were saved again, resized, brightened, cropped or mirrored.

`search` finds groups of similar perceptual hashes without comparing all pairs, `groups` decides
about the images of each group, and `matching` has the steps from a whole set to findings.
"""
