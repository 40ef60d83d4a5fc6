"""One run on this machine, from the scan of the images to the result."""
