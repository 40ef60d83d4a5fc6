"""Names that several rooms share: features of tf.Examples, and parts of a model.

The pipeline's components, the training code and the served `serving_examples` signature read and
write the same records, so they all use these names. Images have a few features more, which no code
needs by name: they are fields of `ImageRow` in `components/common/image_row.py`.
"""

from __future__ import annotations

from typing import Final

# --- the image and its label ------------------------------------------------------------------
IMAGE_BYTES: Final = "image_bytes"  # bytes: the encoded file; also the served signature's input
LABEL: Final = "label"  # bytes: class name
LABEL_INDEX: Final = "label_index"  # int64: index in the vocabulary, -1 when there is no label
SPLIT: Final = "split"  # bytes: one of SPLITS
PATH: Final = "path"  # bytes: path below the source's root, with forward slashes
IMAGE_HASH: Final = "image_hash"  # bytes: hex SHA-256 of the file as found

# --- facts from the header and from decoding --------------------------------------------------
WIDTH: Final = "width"  # int64, pixels; 0 when unknown
HEIGHT: Final = "height"  # int64, pixels; 0 when unknown
CHANNELS: Final = "channels"  # int64, of the decoded image as stored (1, 3, 4); 0 when unknown
FORMAT: Final = "format"  # bytes: Pillow's format name ("JPEG"), "" when unknown
MODE: Final = "mode"  # bytes: Pillow's mode ("RGB", "CMYK", "L"), "" when unknown
BYTE_SIZE: Final = "byte_size"  # int64, bytes of the file
FRAMES: Final = "frames"  # int64, 1 for a still image
ASPECT_RATIO: Final = "aspect_ratio"  # float, width / height; 0 when unknown
GROUP: Final = "group"  # bytes: images of one group share a split; "" when there is no group
FAMILY: Final = "family"  # the images of one name are not independent of each other

# --- measurements of the pixels (`components/common/image_file`), which only the table has -------
BRIGHTNESS: Final = "brightness"  # float 0..1, mean luminance
BRIGHTNESS_P5: Final = "brightness_p5"  # float 0..1, luminance that 95 % of the pixels exceed
BRIGHTNESS_P99: Final = "brightness_p99"  # float 0..1, luminance that 1 % of the pixels exceed
CONTRAST: Final = "contrast"  # float 0..0.5, spread of the luminance
#: float, bits: of the histogram of all channels, or of one channel where all are equal.
ENTROPY: Final = "entropy"
SHARPNESS: Final = "sharpness"  # float 0..1, lower is blurrier
COLOUR: Final = "colour"  # float 0..1, greatest difference between channels; 0 is grey
TRANSPARENCY: Final = "transparency"  # float 0..1, share of the pixels that are not opaque
REPAIRS: Final = "repairs"  # bytes: "transcoded" of a file that is stored as PNG; else ""

# --- the feature bank -------------------------------------------------------------------------
FEATURES: Final = "features"  # also a layer and an output; bytes: little-endian float16 vector
VIEW: Final = "view"  # int64: 0 is the image itself, 1..K the augmented ones

# --- predictions ------------------------------------------------------------------------------
PROBABILITIES: Final = "probabilities"  # also a layer and an output; float list [C]
#: float list [C]: probabilities of the baseline; absent without one.
BASELINE_PROBABILITIES: Final = "baseline_probabilities"
#: bytes list: the stored features of a head in blocks of float16; absent without such a head.
STORED_FEATURES: Final = "stored_features"
#: bytes list: those that the network computes in the precision of the bank, float16; see
#: `trainer.write_parity`.
ROUNDED_FEATURES: Final = "rounded_features"
#: int64: whether an earlier run has stored features of the bank.
STORED_BEFORE: Final = "stored_before"

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
SPLITS: Final = (TRAIN, VALIDATION, TEST)

#: Features of which statistics are computed. Paths and hashes are left out, as all their values
#: differ.
METADATA: Final = (
    LABEL,
    LABEL_INDEX,
    WIDTH,
    HEIGHT,
    CHANNELS,
    FORMAT,
    MODE,
    BYTE_SIZE,
    FRAMES,
    ASPECT_RATIO,
)

# --- a model: its layers and outputs, and the files of its training ----------------------------
SERVED_NAME: Final = "imgpipe"  # in requests, unless `run.name` or `--model` gives another

HEAD: Final = "classifier"  # the layer that computes the logits
HIDDEN: Final = "classifier_hidden"
DROPOUT: Final = "classifier_dropout"
FEATURE_DROPOUT: Final = "classifier_feature_dropout"
PIXELS: Final = "pixels"  # the input
AXES: Final = "covariance_axes_"  # with FLAT and TRIANGLE: of layers for each map, by its number
FLAT: Final = "covariance_flat_"
TRIANGLE: Final = "covariance_triangle_"
LOGITS: Final = "logits"

#: Names that no layer of a backbone may have, and what stands before a number in such names.
ADDED: Final = (PIXELS, FEATURES, HEAD, PROBABILITIES, HIDDEN, DROPOUT, FEATURE_DROPOUT)
ADDED_WITH_NUMBER: Final = (AXES, FLAT, TRIANGLE)

#: Files that training writes to the ModelRun artifact.
HISTORY_FILE: Final = "history.json"
DISTRIBUTION_FILE: Final = "assets.extra/feature_distribution.npz"  # below the SavedModel
OUT_OF_FOLD_FILE: Final = "assets.extra/out_of_fold.npz"  # below the SavedModel
LEARNED_FILE: Final = "assets.extra/learned.npz"  # below the SavedModel
PARITY_FILE: Final = "parity.tfrecord"
TENSORBOARD_FOLDER: Final = "tensorboard"
KERAS_CONFIG: Final = "config.json"  # in a preset of KerasHub, and in a .keras archive
