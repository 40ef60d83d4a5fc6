"""What the names of folders say: who or what took the images, what lies beside them, or a class."""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Collection

from imgpipe.components.example_gen.sources.tree import NEUTRAL_WORDS, SPLIT_WORDS, words

#: Words that say who, what, when or where, when a number or a letter follows, as in camera_A.
_SESSION_WORDS = {
    *("camera", "cam", "webcam", "phone", "scanner", "microscope", "device", "sensor", "drone"),
    *("patient", "subject", "person", "participant", "volunteer", "user", "student", "worker"),
    *("signer", "author", "writer", "speaker", "actor", "child", "animal", "specimen"),
    *("year", "month", "week", "day", "date", "night", "session", "visit", "round", "run", "take"),
    *("site", "hospital", "clinic", "lab", "room", "location", "station", "scene", "center"),
    *("batch", "fold", "part", "chunk", "shard", "collection", "video", "clip", "film", "shoot"),
    *("sequence", "seq", "slide", "roll", "burst", "centre", "field", "plot", "annotator"),
}
#: Words for the circumstances, the processing and the sources of images.
_VIEW_WORDS = {
    *("indoor", "outdoor", "indoors", "outdoors", "inside", "outside", "front", "back", "left"),
    *("right", "top", "bottom", "side", "rear", "close", "closeup", "far", "near", "wide", "zoom"),
    *("sunny", "cloudy", "rainy", "morning", "evening", "spring", "summer", "autumn", "winter"),
    *("original", "originals", "raw", "augmented", "cropped", "resized", "processed", "clean"),
    *("cleaned", "segmented", "enhanced", "color", "colour", "grey", "gray", "grayscale", "rgb"),
    *("hd", "small", "large", "jpg", "jpeg", "png", "web", "google", "bing", "flickr", "baidu"),
    *("frontal", "profile", "full", "crop", "crops", "aug", "rotated", "flipped", "misc"),
    *("edited", "videos", "internet", "male", "female", "adult", "juvenile", "young", "old", "new"),
}
_KIND_WORDS = {"class", "type", "grade", "stage", "level", "category", "kind", "species", "label"}
_DATE = re.compile(r"(19|20)\d\d([-_. ]?\d\d?){0,2}|\d\d?[-_. ]\d\d?[-_. ](19|20)?\d\d")
#: Words for folders of images that others accompany.
_IMAGE_WORDS = NEUTRAL_WORDS - {"folder", "set", "split"} | {
    *("pic", "pics", "jpg", "jpgs", "jpeg", "jpegs", "png", "pngs", "jpegimages", "frames", "raw"),
    *("rgb", "original", "originals"),
}
#: Words for folders of what belongs to images: masks, labels and small copies.
_COMPANION_WORDS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "anno"),
    *("gt", "groundtruth", "truth", "segmentation", "segmentations", "seg", "trimap", "trimaps"),
    *("bbox", "bboxes", "boxes", "xml", "xmls", "json", "jsons", "meta", "metadata", "contours"),
    *("landmarks", "keypoints", "heatmap", "heatmaps", "depth", "edges", "saliency", "outlines"),
    *("thumb", "thumbs", "thumbnail", "thumbnails"),
}
_WORDS = "|".join(sorted(_COMPANION_WORDS, key=len, reverse=True))
_MARKS = re.compile(rf"^({_WORDS})[-_. ]+|[-_. ]+({_WORDS})([-_. ]?\d+)?$")
#: Words for folders whose images have no label.
_UNLABELLED_WORDS = {
    *("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "unknown"),
    *("inference", "submission"),
}
_NO_IMAGES = {
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html"),
    *(".py", ".ipynb", ".log", ".cfg", ".ini", ".sh", ".db", ".mat", ".tfrec", ".tfrecord"),
    *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".lrcat", ".pkl"),
    *(".h5", ".keras", ".pt", ".pth", ".onnx", ".tflite"),
}


class Meaning(enum.IntEnum):
    """How likely names of folders are circumstances of images, and not their classes."""

    KIND = 0  # class_1, class_2
    WORD = 1  # cat, dog
    NUMBER = 2  # 1, 2; P001, P002
    SERIES = 3  # farm1, farm2
    VIEW = 4  # indoor, outdoor; hospital_north
    SESSION = 5  # camera_A, camera_B; 2022, 2023; train, test


def meaning(names: Collection[str]) -> Meaning:
    """Return what folders at one level are by their names: the least likely circumstance."""
    least = min(map(_meaning, names))
    if least is Meaning.WORD:
        split = [words(name) for name in names]
        first = {parts[0] if parts else "" for parts in split}
        if len(first) == 1 and first <= _SESSION_WORDS:
            return Meaning.VIEW
        stems = {tuple(filter(_is_word, parts)) for parts in split}
        if len(split) > 1 and len(stems) == 1 and stems != {()}:
            return Meaning.SERIES
    return least


def _meaning(name: str) -> Meaning:
    if _DATE.fullmatch(name):
        return Meaning.SESSION
    parts = words(name)
    said = {part for part in parts if _is_word(part)} - NEUTRAL_WORDS
    if said & _KIND_WORDS:
        return Meaning.KIND
    if said and (
        said <= SPLIT_WORDS.keys() or (said <= _SESSION_WORDS and not all(map(_is_word, parts)))
    ):
        return Meaning.SESSION
    if said and said <= _SESSION_WORDS | _VIEW_WORDS:
        return Meaning.VIEW
    # A letter alone may be a class, as in sign language.
    return Meaning.NUMBER if not said and any(map(str.isdecimal, parts)) else Meaning.WORD


def _is_word(part: str) -> bool:
    """Whether a part of a name is a word, and neither a number nor a single Latin letter."""
    return not part.isdecimal() and not re.fullmatch("[a-z]", part)


def is_companion(name: str) -> bool:
    """Whether a folder of this name belongs to images: masks, labels, thumbnails."""
    parts = set(words(name))
    return bool(parts & _COMPANION_WORDS) and not parts & {"with", "without", "no", "not", "non"}


def is_images(name: str) -> bool:
    """Whether a folder of this name holds images, and the name says nothing else."""
    said = set(filter(_is_word, words(name))) - SPLIT_WORDS.keys()
    return bool(said) and said <= _IMAGE_WORDS


def is_unlabelled(name: str) -> bool:
    """Whether a folder of this name holds images without labels."""
    return bool(set(words(name)) & _UNLABELLED_WORDS)


def is_no_image(path: str) -> bool:
    """Whether a file is a text or a table by its suffix."""
    return posixpath.splitext(path)[1].lower() in _NO_IMAGES


def twin_stem(path: str) -> str:
    """Return the stem of a file's name without words such as mask, which its image has too."""
    return _MARKS.sub("", _stem(path))


def is_marked(path: str) -> bool:
    """Whether the name of a file says that it belongs to an image, as in x_mask and x_mask_1."""
    return bool(_MARKS.search(_stem(path)))


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0].lower()
