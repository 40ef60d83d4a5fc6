"""Names of splits, in the names of folders and files and in the cells of tables.

They are train, validation and test in their usual forms, in any case, or the same longer name for
all of them with the word exchanged: training_set and test_set, seg_train and seg_test. The public
test of a competition, as that of FER2013, is what people validate with; the private one is the
test.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from imgpipe.models import names
from imgpipe.models.errors import ConfigError

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
