"""Families: images that show the same thing, as their file names and capture times say.

Frames of a film, visits of a patient, tiles of a slide, photographs of a burst and copies that an
augmentation program has written have names that begin alike: `IMG_5567_mp4-90.jpg`,
`00000061_012.png`, `rock01-017.png`, `13_left.jpg`. What programs append is dropped first,
and so is whatever follows the whole name of another file of the class, as in `x.jpg` and
`x - Kopia.jpg`. Then the family of an image is the shortest beginning of its name that ends at a
number and that few images share: no family holds more than a fifth of its class, and at least one
holds two images of it. Names such as `cat.123.jpg`, `glass (17).jpg` or `IMG_1121.JPG` give
no families, and dates, sizes of images and coordinates are no numbers of a family. Photographs that
one camera took within seconds of each other are a family, too.

A wrong family costs little while it is small, but images of one family on both sides of a split
make every accuracy too high.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from imgpipe.components.image_filter.judge.image_row import ImageRow

#: Share of the images of its class that a family may hold.
_LARGEST = 0.2
#: Copies of one file have a counter, such as `x (2).jpg`, and so have the downloads of a browser,
#: such as `images (2).jpg`. More than so many of a name without a number are different images.
_MOST_COPIES = 5
#: Seconds between two photographs of a burst.
_BURST_SECONDS = 3
#: Images of a burst at least that are too many, if they are a fifth of all images: a clock that
#: stands still gives all photographs the same moment.
_LONG_BURST = 10
#: Words after which the number of a frame or of a part of an image follows.
_BEFORE_PARTS = {"mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv"}
_BEFORE_PARTS |= {"frame", "slice", "tile", "patch"}
_PART = re.compile(r"(?<![^\W\d_])(frame|slice|tile|patch)(?=\d)", re.IGNORECASE)
_CHANGES = (
    "aug(?:mented)?|orig(?:inal)?|rot(?:at(?:ed?|ion))?|turn(?:ed)?|[hv]?flip(?:ped)?|"
    "mirror(?:ed)?|bright(?:en|er|ness)?|dark(?:en|er)?|contrast|gamma|noisy?|noise|gauss(?:ian)?|"
    "blur(?:red)?|sharp(?:en)?|crop(?:ped)?|zoom(?:ed)?|shift(?:ed)?|translat(?:ed?|ion)|"
    "shear(?:ed)?|scaled?|gr[ae]y(?:scale)?|hue|saturation|jitter|elastic|cutout|affine|warp(?:ed)?"
)
_DETAILS = r"(?:[\W_]*(?:\d+|deg(?:rees)?|left|right|horizontal|vertical|up|down|lr|ud|[hvlrxy]))*"
#: What programs add to the name of a file: Roboflow's hash; what Augmentor writes around it; the
#: suffix of the original; the words of augmentation programs; a letter for a variant; what comes
#: before the moment of a burst, the number of an edited photograph, and the patient of a tile.
_ADDED = (
    re.compile(r"\.rf\.[0-9a-f]{4,}(?:_\d+)?$", re.IGNORECASE),
    re.compile(r"(?<=[a-z])_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    re.compile(r"^[^/]+?_original_(?=.)"),
    re.compile(r"[._](?:jpe?g|png|bmp|gif|tiff?|webp|heic|avif)$", re.IGNORECASE),
    re.compile(rf"[\W_]+(?:{_CHANGES}){_DETAILS}$", re.IGNORECASE),
    re.compile(rf"^(?:{_CHANGES})\d*[\W_]+(?:\d+[\W_]+(?=[^\W\d_]))?(?=\w*\d)", re.IGNORECASE),
    re.compile(r"(?<=[0-9a-f])[_-][a-z]$", re.IGNORECASE),
    re.compile(r"^\d{5}[A-Za-z]+_\d{5}_(?=BURST\d)"),
    re.compile(r"(?<=IMG_)E(?=\d{4}$)"),
    re.compile(r"^blk-[A-Z]+-(?=TCGA-)"),
)
_DATE = r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
#: What is one number: a date with a time, a date, and a latitude with a longitude.
_ONE_NUMBER = (
    re.compile(
        _DATE + r"[-_. T]*(?:at|um)?[-_. T]*([01]?\d|2[0-3])[-_.h:]?([0-5]\d)[-_.m:]?([0-5]\d)"
        r"(?:[._]?\d{3})?(?!\d)"
    ),
    re.compile(_DATE + r"(?!\d)"),
    re.compile(r"(?<![\d.])(\d{1,3})\.(\d{3,})[,_ a-z]+-?(\d{1,3})\.(\d{3,})(?![\d.])", re.I),
)
#: Numbers that images of different things share: a date or a year, because the photographs of a day
#: or a year are no family; width and height; the synset of ImageNet.
_SHARED = re.compile(r"(?:19[5-9]|20[0-3])\d(?:[01]\d[0-3]\d)?|\d{2,4}x\d{2,4}|n\d{8}")
_SEPARATORS = " _.,~()[]+–—-"
#: A place between two words, and one after which a word of another script begins.
_BETWEEN_WORDS = re.compile(r"(?<=\w)(?=[\W_])|(?<=[\W_])(?=\W)|(?<=[!-~])(?=[^\x00-\x7f])")
_WORD = re.compile(r"[^\W_]+")
#: Words with a number in turn, such as `patient12slide3`. A hash mixes single letters and digits.
_SEVERAL = re.compile(r"(?:[^\W\d_]{2,}\d+){2,}$")
_ONE_OF_SEVERAL = re.compile(r"[^\W\d_]+\d+")


def by_content(images: Sequence[ImageRow]) -> dict[str, str]:
    """Find the families of a set of images.

    Args:
        images: All images, in any order.

    Returns:
        The name of its family by the content of each image that has one. A family has at least two
        files, which may be of several classes. Files with the same content are one image, of the
        family of the first path.

    Examples:
        >>> frames = [f"rock/IMG_{film}_mp4-{n}.jpg" for film in range(20, 30) for n in range(3)]
        >>> images = [ImageRow(path, "rock", image_hash=path) for path in frames]
        >>> by_content(images)["rock/IMG_24_mp4-1.jpg"]
        'IMG_24*'
    """
    families = _by_name(images)
    bursts = _bursts(images)
    # A burst joins the families of its images.
    joined: dict[str, str] = {}
    for path, burst in sorted(bursts.items()):
        first = _joined(families.setdefault(path, burst), joined)
        second = _joined(burst, joined)
        if first != second:
            joined[max(first, second)] = min(first, second)
    families = {path: _joined(name, joined) for path, name in families.items()}
    sizes = Counter(families.values())
    family_of: dict[str, str] = {}
    for image in sorted(images, key=lambda image: image.path):
        family = families.get(image.path, "")
        if sizes[family] > 1:
            family_of.setdefault(image.image_hash, family)
    return family_of


def _joined(name: str, joined: Mapping[str, str]) -> str:
    """Follow a family to the one into which it was joined."""
    while name in joined:
        name = joined[name]
    return name


@dataclass(frozen=True)
class _Name:
    """The name of a file without what programs add.

    Attributes:
        path: Path of the file.
        text: The name.
        ends: Places in the text at which a number ends, and the end of the text.
        form: The text up to the last number, without its numbers; names of one form are compared
            with each other.
    """

    path: str
    text: str
    ends: tuple[int, ...]
    form: str

    def beginning(self, place: int) -> str:
        """Return the text up to a place."""
        return self.text[: self.ends[place]]

    def word(self, place: int) -> str:
        """Return the word at whose end a place is."""
        return re.split(r"[\W_]", self.beginning(place))[-1]


def _by_name(images: Iterable[ImageRow]) -> dict[str, str]:
    """Return the families that the names of the files tell, by path."""
    by_class: dict[str, list[ImageRow]] = defaultdict(list)
    for image in images:
        by_class[image.label].append(image)
    family_of: dict[str, str] = {}
    for label, members in by_class.items():
        most = max(2, int(_LARGEST * len(members)))
        by_form: dict[str, list[_Name]] = defaultdict(list)
        for name in _names(members):
            by_form[name.form].append(name)
        for names in by_form.values():
            family_of.update(_of_one_form(names, label, most))
    return family_of


def _names(members: Sequence[ImageRow]) -> list[_Name]:
    """Return the names of the files of a class; with their folders, if names recur in several."""
    folders = Counter(image.path.rpartition("/")[0] for image in members)
    files = Counter(_file(image.path) for image in members)
    largest = max(folders, key=folders.__getitem__)
    elsewhere = [image.path for image in members if image.path.rpartition("/")[0] != largest]
    recurring = sum(files[_file(path)] > 1 for path in elsewhere)
    with_folders = recurring > len(elsewhere) / 2
    texts = {image.path: _text(image, with_folders) for image in members}
    whole_names = set(texts.values())
    return [_name(path, _original(text, whole_names)) for path, text in texts.items()]


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _text(image: ImageRow, with_folders: bool) -> str:
    text = _without_additions(_file(image.path).rpartition(".")[0], image.label)
    if with_folders:
        folders = [part for part in image.path.split("/")[:-1] if part != image.label]
        text = "/".join([*folders, text])
    return text


def _original(text: str, whole_names: Set[str]) -> str:
    """Return the shortest name of a class from which a name was made by adding words to it."""
    for match in _BETWEEN_WORDS.finditer(text):
        if text[: match.start()] in whole_names:
            return text[: match.start()]
    for match in _BETWEEN_WORDS.finditer(text):
        before = text[: match.start()]
        after = text[match.start() :].lstrip(_SEPARATORS)
        if re.search(r"\d", before):
            break
        if after in whole_names and re.search(r"[^\W\d_]", after):
            return after
    return text


def _name(path: str, text: str) -> _Name:
    ends: list[int] = []
    form = ""
    last = 0
    for start, end in _words(text):
        word = text[start:end]
        if re.search(r"\d", word):
            form += f"{text[last:start]}#"
        elif word.lower() in _BEFORE_PARTS:
            form += text[last:end]
        else:
            continue
        last = end
        ends.append(end)
    return _Name(path, text, (*ends, len(text)), form or text)


def _without_additions(stem: str, label: str) -> str:
    """Return the name of the file of which this one may be a copy, without the class before it."""
    text = _PART.sub(r"\1_", stem)
    for pattern in _ONE_NUMBER:
        text = pattern.sub(lambda match: "".join(match.groups()), text)
    before = ""
    while text != before:
        before = text
        for pattern in _ADDED:
            text = pattern.sub("", text) or text
    named = re.match(rf"{re.escape(label)}[\W_]+(?=\w)", text, re.IGNORECASE) if label else None
    return text[named.end() :] if named else text


def _words(text: str) -> list[tuple[int, int]]:
    """Return where the words of a name begin and end."""
    words: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        if _SEVERAL.match(word.group()):
            parts = _ONE_OF_SEVERAL.finditer(word.group())
            words += [(word.start() + part.start(), word.start() + part.end()) for part in parts]
        else:
            words.append(word.span())
    return words


def _of_one_form(names: Sequence[_Name], label: str, most: int) -> dict[str, str]:
    """Return the families of names of one form, by path, of at most `most` images each."""
    last = len(names[0].ends) - 1
    for place in range(last + 1):
        sizes = Counter(name.beginning(place) for name in names)
        largest = max(sizes.values())
        if largest == 1:
            return {}
        is_shared = all(_SHARED.fullmatch(name.word(place)) for name in names)
        if place == last or (largest <= most and not is_shared):
            return _at_place(names, place, sizes, label, most)
    return {}


def _at_place(
    names: Sequence[_Name], place: int, sizes: Mapping[str, int], label: str, most: int
) -> dict[str, str]:
    """Return the families of names that begin alike up to a place, by path."""
    longer = {name.beginning(place) for name in names if name.text != name.beginning(place)}
    families: dict[str, str] = {}
    for name in names:
        beginning = name.beginning(place)
        # Whole names are equal where one file is a copy of the other, which is of the same class.
        copies = most if re.search(r"\d", beginning) else _MOST_COPIES
        if beginning in longer:
            families[name.path] = f"{beginning}*"
        elif sizes[beginning] <= copies:
            families[name.path] = f"{label}/{beginning}"
    return families


def _bursts(images: Sequence[ImageRow]) -> dict[str, str]:
    """Return the bursts of photographs that a camera took within seconds, by path."""
    shots = sorted(
        (image for image in images if image.captured),
        key=lambda image: (image.camera, image.captured, image.path),
    )
    burst_of: dict[str, str] = {}
    for earlier, later in itertools.pairwise(shots):
        same_camera = earlier.camera == later.camera
        if same_camera and later.captured - earlier.captured <= _BURST_SECONDS:
            burst = burst_of.setdefault(earlier.path, f"burst of {earlier.path}")
            burst_of[later.path] = burst
    sizes = Counter(burst_of.values())
    most = max(_LONG_BURST, int(_LARGEST * len(images)))
    return {path: burst for path, burst in burst_of.items() if sizes[burst] <= most}
