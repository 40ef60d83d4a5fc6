"""Renders an image of a hand from a pose, an appearance, a background and a camera."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from imgpipe.pipeline.demo import backgrounds, look, poses, shading, skeleton, surface, view

OVERSAMPLING = 2  # factor by which the hand is drawn larger and then shrunk, for smooth edges


def render(label: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Render a hand.

    Args:
        label: The gesture.
        rng: Source of randomness for everything else.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        An RGB image.
    """
    pose = poses.sample(label, rng)
    style = look.sample(rng)
    bones = skeleton.build(pose)
    big = OVERSAMPLING
    framed = view.frame(bones, pose, width * big, height * big, rng.uniform(0.72, 0.96))
    framed = view.moved(framed, rng.normal(0, 0.03, 2) * (width * big, height * big))
    seen = surface.rasterize(framed.bones, height * big, width * big)
    ground_depth = -framed.unit / big * rng.choice((0.5, 1.2, 6.0), p=(0.45, 0.35, 0.2))
    shade, floor_shade = _shades(seen, framed.unit, ground_depth, style.light)
    hand = shading.hand_colour(seen, framed, style, shade, rng)
    alpha = _shrink((seen.owner >= 0).astype(np.float32)[None])
    back = backgrounds.paint(rng, height, width)
    glow = style.light.ambient + style.light.key * max(0.35, style.light.direction[2])
    back = back * (glow.astype(np.float32) * 0.9)[:, None, None]
    dim = np.float32(0.75 * style.light.hardness + 0.1)
    image = back * (1 - dim * floor_shade) * (1 - alpha) + _shrink(hand)
    return _develop(image, rng)


def _shrink(planes: np.ndarray) -> np.ndarray:
    """Return the means of blocks of OVERSAMPLING × OVERSAMPLING pixels of [C, H, W]."""
    k = OVERSAMPLING
    parts = [planes[:, i::k, j::k] for i in range(k) for j in range(k)]  # faster than reshape
    return sum(parts[1:], parts[0]) * np.float32(1 / k**2)


def _grow(plane: np.ndarray) -> np.ndarray:
    size = (plane.shape[1] * OVERSAMPLING, plane.shape[0] * OVERSAMPLING)
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))


def _shades(
    seen: surface.Surface, unit: float, ground: float, light: look.Light
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the shadows.

    Returns:
        The share of the lamp and of the sky that is hidden from the hand, [2, H, W] in the size of
        the large image, and the shadow on the background, [h, w] in that of the small image.
    """
    k = OVERSAMPLING
    height = seen.height[::k, ::k] / np.float32(k)  # pixels of the small image
    unit = unit / k
    solid = np.maximum(height, np.float32(ground))
    hidden = shading.shadow(
        solid, light.direction, unit * 1.3, unit * (0.34 - 0.2 * light.hardness)
    )
    # The surroundings hide more of the sky, the further a pixel lies below the mean around it.
    sky = np.zeros_like(solid)
    for share, wide in ((0.09, 0.6), (0.22, 0.5)):
        step = max(2, round(unit * share))
        depth = shading.blurred(solid, step) - solid
        sky += wide * np.clip(depth / np.float32(unit * share * 1.2), 0, 1)
    hidden_soft = np.clip(shading.blurred(hidden, 2), 0, 1)
    on_hand = np.stack([_grow(hidden_soft), _grow(np.clip(sky, 0, 0.85))])
    floor = np.clip(shading.blurred(hidden, 4) + 0.3 * np.clip(sky, 0, 0.6), 0, 1)
    return on_hand, floor


def _develop(pixels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Convert linear values to 8-bit sRGB, with exposure, vignette, blur and sensor noise."""
    height, width = pixels.shape[1:]
    # A camera's automatic exposure brightens dark scenes, but leaves them darker than others.
    metered = np.clip((0.30 / max(float(pixels.mean()), 0.01)) ** 0.6, 0.75, 2.0)
    gain = metered * rng.uniform(0.85, 1.2) * rng.normal(1, 0.03, 3)
    pixels = pixels * gain.astype(np.float32)[:, None, None]
    if rng.random() < 0.4:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        pixels = pixels * (1 - np.float32(rng.uniform(0.05, 0.25)) * (x * x + y * y))
    # This curve compresses highlights, which would otherwise be clipped.
    pixels = np.maximum(pixels, 0)
    pixels = pixels * (1 + pixels * 0.12) / (1 + pixels * 0.35)
    srgb = np.clip(pixels * 1.12, 0, 1) ** np.float32(1 / 2.2) * 255
    image = Image.fromarray(srgb.transpose(1, 2, 0).astype(np.uint8))
    softness = rng.uniform(0, 0.9) if rng.random() < 0.6 else 0.0
    if softness > 0.25:
        image = image.filter(ImageFilter.GaussianBlur(softness))
    noise = rng.uniform(0, 5)
    grain = rng.standard_normal((height, width, 3), np.float32) * np.float32(noise)
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
