"""What a feature bank holds: as much as fits into its budget."""

import functools
import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.feature_bank.store import FeatureStore
from imgpipe.models import feature_names as names
from imgpipe.models.feature_kinds import parts_of
from imgpipe.models.features.extractor import FeatureExtractor, described

#: Value of the parameter `budget` for a share of the free disk space.
FREE_DISK = -1.0
_FREE_SHARE = 0.25  # three copies and some room; see `free_budget`


@dataclass(frozen=True)
class StoragePlan:
    """What is stored for each image, and where. It holds plain values that Beam can pickle.

    Attributes:
        network: Description of the backbone, as `models.features.extractor.describe` returns it.
        store: Folder of the content-addressed store, as `BlobStore` takes it.
        views: Number of augmented views that are stored of each training image, beside the image
            itself.
        sizes: Number of features in each block of a view; with () nothing is stored.
        kept: What a head reads of each record of the bank, as the setting `features` names it; ""
            for everything. The store has all blocks in any case.
    """

    network: str
    store: str
    views: int
    sizes: tuple[int, ...] = ()
    kept: str = ""

    @property
    def dim(self) -> int:
        """Number of features of a view; 0 if nothing is stored."""
        return sum(self.sizes)

    @property
    def recorded(self) -> tuple[int, ...]:
        """Number of features in each block of a record."""
        return tuple(self.sizes[number] for number in self.numbers)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the blocks of a record among those of the store."""
        everything = tuple(range(len(self.sizes)))
        return parts_of(described(self.network)[0].widest)[self.kept] if self.kept else everything

    @property
    def columns(self) -> list[slice]:
        """Places of the features of a record among those of the store, one slice for each block."""
        ends = list(itertools.accumulate(self.sizes, initial=0))
        return [slice(*ends[number : number + 2]) for number in self.numbers]

    @property
    def read(self) -> str:
        """What a head reads of the records, as the setting `features` names it."""
        return self.kept or described(self.network)[0].widest

    def views_of(self, split: str) -> list[int]:
        """Numbers of the views of an image of a split."""
        return list(range(self.views + 1)) if split == names.TRAIN else [0]


def shared_extractor(network: str) -> FeatureExtractor:
    """Return the extractor of a backbone, which all threads of a process share."""
    # A file of weights or an own network may change between two runs of a process.
    return _shared(network, FeatureExtractor(*described(network)).key(0))


@functools.lru_cache(maxsize=2)
def _shared(network: str, key: str) -> FeatureExtractor:
    return FeatureExtractor(*described(network))


def make_plan(
    network: str, store: str, kept: Mapping[str, int], budget: float
) -> tuple[StoragePlan, str]:
    """Decide what to store within the budget.

    If not everything fits, fewer augmented views are stored. Training then has one view less, but
    needs no forward pass of every image in every epoch.

    Args:
        network: See `StoragePlan`.
        store: See `StoragePlan`.
        kept: Number of images by split.
        budget: Bytes that the features of a run may take.

    Returns:
        The plan, and the reason why it does not store everything; "" when it does.
    """
    settings, _ = described(network)
    views = settings.views.count
    if not settings.frozen:
        note = "the backbone itself is trained, so that images are read"
        return StoragePlan(network, store, views), note
    blocks = FeatureStore(store).learn_sizes(shared_extractor(network))
    sizes = {count: bytes_of(kept, count, sum(blocks)) for count in range(views, -1, -1)}
    over = f"features would take {_size(sizes[views])}, over bank.budget, which is {_size(budget)}"
    count = next((count for count, size in sizes.items() if size <= budget), None)
    if count is None:
        return StoragePlan(network, store, views), over
    stored = f"{over}; those of {count} augmented views of each training image are stored"
    return StoragePlan(network, store, count, blocks), stored if count < views else ""


def _size(count: float) -> str:
    """Format a number of bytes in the unit that fits: ``1.794 MiB``, ``12.5 GiB``."""
    return f"{count / 2**20:.4g} MiB" if count < 2**30 else f"{count / 2**30:.4g} GiB"


def bytes_of(kept: Mapping[str, int], views: int, dim: int) -> int:
    """Size of the features of all images, float16."""
    return 2 * (sum(kept.values()) + views * kept[names.TRAIN]) * dim


def free_budget(store: str, artifact: str) -> float:
    """Bytes that the features of a run may take where no budget is given.

    They are written three times at most: to the store, to the artifact and, above what memory
    holds, to a temporary file of ImageTrainer beside it.

    Args:
        store: Folder of the content-addressed store, which need not exist.
        artifact: Folder of the artifact, likewise.
    """
    parents = (next(one for one in Path(f, "_").parents if one.exists()) for f in (store, artifact))
    return _FREE_SHARE * min(shutil.disk_usage(folder).free for folder in parents)
