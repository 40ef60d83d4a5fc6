"""Names that requests use: the default signature, and the input for encoded images."""

DEFAULT_SIGNATURE = "serving_default"
#: Name of the input, and of the feature, for encoded images in the models of imgpipe.
IMAGE_INPUT = "image_bytes"
