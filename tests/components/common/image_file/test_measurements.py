"""Measurements of images are compared with a plain implementation of the published formulas."""

import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageStat

from imgpipe.components.common.image_file import pixels as measurements
from imgpipe.components.common.image_file.pixels import Pixels
from imgpipe.components.image_filter.judge import checks
from imgpipe.models import names


def measure(image):
    return measurements.measure(Pixels(np.asarray(image)))


def published(image):
    """Return CleanVision's scores of an opened image, implemented from their description.

    dark: 99th percentile of sqrt(.241 R² + .691 G² + .068 B²) / 255; light: 1 − the 5th percentile;
    entropy: as Pillow computes it; blurry: the image is shrunk to 64 pixels at most, made grey and
    its edges are found, 1 − exp(−.01 × their spread), plus the same of the histogram's spread where
    that is over .18.
    """
    red, green, blue = np.moveaxis(np.asarray(image).astype(int), -1, 0)
    light = np.sqrt(0.241 * red**2 + 0.691 * green**2 + 0.068 * blue**2) / 255
    ratio = max(image.size) / 64
    small = image
    if ratio > 1:
        small = image.resize(tuple(max(int(side // ratio), 1) for side in image.size))
    grey = small.convert("L")
    edges = math.sqrt(ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0])
    tones = 1 - math.exp(-0.01 * float(np.std(grey.histogram())))
    return {
        names.BRIGHTNESS_P99: np.percentile(light, 99),
        names.BRIGHTNESS_P5: np.percentile(light, 5),
        names.ENTROPY: image.entropy(),
        names.SHARPNESS: min(1 - math.exp(-0.01 * edges) + (tones if tones > 0.18 else 0), 1),
    }


#: Feature → a function from its value to what a check compares, and the default threshold.
COMPARED = {
    names.BRIGHTNESS_P99: (lambda value: value, checks.quality.dark.threshold),
    names.BRIGHTNESS_P5: (lambda value: 1 - value, checks.quality.light.threshold),
    names.ENTROPY: (lambda value: 0.1 * value, checks.quality.low_information.threshold),
    names.SHARPNESS: (lambda value: value, checks.quality.blurry.threshold),
}


def agree(image, about):
    """Assert that an image has the published verdicts, and nearly the published measurements.

    Close to a threshold they must be equal. `about` names the image in the message.
    """
    found = measure(image)
    for name, value in published(image).items():
        score, limit = COMPARED[name]
        mine, theirs = score(found[name]), score(value)
        assert (mine < limit) == (theirs < limit), (about, name)
        if name == names.SHARPNESS and theirs > 0.4:
            continue  # the histogram's part is added or not; the image is sharp in both cases
        close = abs(theirs - limit) < 0.02
        assert mine == pytest.approx(theirs, abs=1e-6 if close else 0.04), (about, name)


def test_photographs_are_measured_as_published(shared_data):
    """Pillow decodes the photographs for both sides, so that only the formulas differ."""
    photographs = sorted((shared_data / "cats_dogs").rglob("*.jpg"))[::40][:40]
    if not photographs:
        pytest.skip("needs ../shared/data/cats_dogs")
    for path in photographs:
        with Image.open(path) as file:
            image = file.convert("RGB")
        for change in (0, 0.4, 1.6):  # darker and lighter images come near the thresholds
            changed = ImageEnhance.Brightness(image).enhance(change) if change else image
            agree(changed, path.name)
        blurred = image.filter(ImageFilter.GaussianBlur(max(image.size) / 40))
        agree(blurred, path.name)


@pytest.mark.slow
def test_large_images_are_sampled_and_measure_nearly_the_same():
    noise = np.random.default_rng(0).integers(0, 200, (75, 100, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC)
    found = measure(image)
    for name, value in published(image).items():
        assert found[name] == pytest.approx(value, abs=0.02), name
