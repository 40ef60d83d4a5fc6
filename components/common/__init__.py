"""What several components share: artifacts, blessings, splits, storage, and the image file."""
