"""Makes image files for the tests: noise and soft colours, in any format that Pillow writes."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Encode an image, or uint8 pixels, in Pillow's format `kind` with options of the format."""
    out = io.BytesIO()
    made = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    made.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int, order: str = ">") -> bytes:
    """Return an Exif block as Pillow writes it, in the order of bytes ">" or "<"."""
    block = Image.Exif()
    block.endian = order
    block[ExifTags.Base.Orientation], block[ExifTags.Base.Software] = orientation, "camera"
    return block.tobytes()


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels that are stored with this Exif orientation as Pillow turns them upright."""
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def noise(seed: int = 0, size: tuple[int, int] = (40, 32)) -> np.ndarray:
    """Return noise, uint8 [height, width, 3]; `size` is (width, height)."""
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


def frame(film: int, seed: int) -> bytes:
    """Return a frame of a film, as PNG: noise of its own in the colour of the film."""
    colour = np.random.default_rng([7, film]).uniform(0.2, 1, 3)
    return encoded((noise(seed) * colour).astype(np.uint8))


def soft(seed: int = 0, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Return an image of soft random colours, which JPEG compression changes less than noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def scene(seed: int = 0, size: tuple[int, int] = (320, 256)) -> Image.Image:
    """Return a grey image of smooth shapes of several sizes; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.random((n, n), np.float32)).resize(size, Image.Resampling.BICUBIC)
        )
        for n in (4, 8, 16, 32)  # random values along each side
    ]
    return Image.fromarray((np.mean(layers, 0).clip(0, 1) * 255).astype(np.uint8)).convert("RGB")


def save(image: Image.Image, file: Path) -> None:
    """Save an image, and make the folder for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def class_folders(root: Path, images: Mapping[str, Iterable[Image.Image]]) -> Path:
    """Write the images of each label as `root`/LABEL/0.png, 1.png and so on; return root."""
    for label, of_label in images.items():
        (root / label).mkdir(parents=True)
        for number, image in enumerate(of_label):
            image.save(root / label / f"{number}.png")
    return root


def folder_of(root: Path) -> Path:
    """Write `root`/cat/0.png and `root`/dog/0.png, black images of 40 x 40 pixels; return root."""
    return class_folders(root, {label: [Image.new("RGB", (40, 40))] for label in ("cat", "dog")})


def distance(one: bytes, other: bytes) -> int:
    """Return the number of bits in which two perceptual hashes differ, 0..256."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
