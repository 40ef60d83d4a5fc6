"""The splits: the names by which a source gives them, and the rule that assigns all other images.

Names of folders and files and cells of tables say train, validation and test in their usual forms,
in any case, or the same longer name for all of them with the word exchanged: training_set and
test_set, seg_train and seg_test. The public test of a competition, as that of FER2013, is what
people validate with; the private one is the test.

The rule is a salted hash, so that adding files does not move other images. ImageFilter may move an
image afterwards, when all images are known: near-duplicates are placed in one split, and each class
gets its minimum of images (`image_filter.placement`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence

from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import SplitShares
from imgpipe.models.settings.settings import Settings

#: Where several splits claim an image or a group, it stays in the first of these, so that no model
#: is evaluated on an image that it was trained on.
HELD_OUT_FIRST = (names.TEST, names.VALIDATION, names.TRAIN)

_LETTER = r"[^\W\d_]"
_WORD = re.compile(
    rf"(?<!{_LETTER})(?:(?P<{names.TRAIN}>train(?:ings?)?)"
    rf"|(?P<{names.VALIDATION}>val(?:id(?:at(?:e|ion))?)?|dev|eval(?:uation)?|public[_ ]?test)"
    rf"|(?P<{names.TEST}>(?:private[_ ]?)?test(?:ing)?))"
    rf"(?=(?:s|set|data|daten|split|folder|images?|imgs?)?(?!{_LETTER}))"
)


def split_of(name: str) -> str | None:
    """Return the split that a name says; None for none or several."""
    splits = {match.lastgroup for match in _WORD.finditer(_apart(name))}
    return splits.pop() if len(splits) == 1 else None


def are_splits(several: Collection[str]) -> bool:
    """Whether several names are those of splits, train and another one among them.

    All have to be the same name with the word of the split exchanged: test_tube and train_track
    are none. Digits make no difference, as in train2017 and test1.
    """
    splits = set(map(split_of, several))
    rests = {re.sub(r"[\W\d_]", "", _WORD.sub("", _apart(name))) for name in several}
    return len(rests) == 1 and None not in splits and names.TRAIN in splits and len(splits) > 1


def _apart(name: str) -> str:
    """Return a name in lower case with its words apart: dsTrain is "ds train"."""
    return re.sub(r"([^\W\d_A-Z])([A-Z])", r"\1 \2", name).lower()


def split_word(word: str, where: str) -> str:
    """Return the split that a row or a record names, which the message calls `where`.

    Another word is a ConfigError, because it may mean a held-out image.
    """
    split = split_of(word)
    if split is None:
        raise ConfigError(
            f"data source {where}: split {word!r}; expected train, validation or test, or nothing "
            "where it is to be assigned. If it holds something else, rename the column or feature"
        )
    return split


class SplitRule(SplitShares):
    """The rule by which images are assigned to splits.

    Attributes:
        given: Splits that the source itself names.
        min_validation: Number of images of each class that validation gets if the class has enough.
        min_test: Number of images of each class that test gets if the class has enough.
    """

    given: tuple[str, ...] = ()
    min_validation: int = 0
    min_test: int = 0

    @classmethod
    def of(cls, settings: Settings, given: Sequence[str] = ()) -> SplitRule:
        """Return the rule by which a run divides its images.

        The gate requires images of each class in validation. It requires none in test, but a class
        with enough images gets one.

        Args:
            settings: The settings of the run, of which `split` and `gate` are read.
            given: Splits that the source itself names.
        """
        return cls(
            seed=settings.split.seed,
            validation=settings.split.validation,
            test=settings.split.test,
            given=tuple(given),
            min_validation=settings.gate.min_validation,
            min_test=1,
        )

    @property
    def drawn(self) -> tuple[str, ...]:
        """The splits between which this rule decides; the source decides about all others."""
        if not self.given:
            return names.SPLITS
        # A source that names splits has decided about test, even if it names no test split.
        return () if names.VALIDATION in self.given else (names.TRAIN, names.VALIDATION)

    @property
    def minimum(self) -> dict[str, int]:
        """Number of images that each class should have, by split that is drawn and has a share."""
        wanted = {
            names.VALIDATION: (self.validation, self.min_validation),
            names.TEST: (self.test, self.min_test),
        }
        return {
            split: least
            for split, (share, least) in wanted.items()
            if split in self.drawn and share > 0 and least > 0
        }

    def assign(self, image_hash: str, given: str | None, group: str | None = None) -> str:
        """Assign an image to a split.

        A given split is kept. If the source names splits but no validation, a share of train is
        assigned to validation; none is assigned to test.

        Args:
            image_hash: Content hash of the image; identical files are in the same split.
            given: Split that the source gives the image, or None.
            group: Group of the image, whose images are all in the same split, or None.

        Returns:
            The name of the split.

        Examples:
            >>> rule = SplitRule(validation=0.25, test=0.1)
            >>> rule.assign("5e1f", None)
            'train'
            >>> {rule.assign(image, None, group="patient 7") for image in ("5e1f", "a07c")}
            {'train'}
            >>> SplitRule(given=("train", "test")).assign("5e1f", "test")
            'test'
        """
        key = self.key(image_hash, group)
        if self.given:
            split = given or names.TRAIN
            divided = split == names.TRAIN and names.VALIDATION not in self.given
            return names.VALIDATION if divided and self.draw(key) < self.validation else split
        draw = self.draw(key)
        if draw < self.validation:
            return names.VALIDATION
        return names.TEST if draw < self.validation + self.test else names.TRAIN

    @staticmethod
    def key(image_hash: str, group: str | None = None) -> str:
        """Return the key by which an image is drawn: that of its group, or of its content."""
        return f"group:{group}" if group else image_hash

    def draw(self, key: str) -> float:
        """Return a uniformly distributed number in [0, 1) that only seed and key determine."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
