"""Draws the appearance of a hand at random: the colours of skin and clothes, and the light."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

# sRGB values from very light to very dark. The skin of an image lies between two neighbours.
_SKIN = (
    (246, 218, 198),
    (238, 200, 174),
    (229, 184, 152),
    (214, 165, 128),
    (194, 141, 104),
    (166, 114, 79),
    (136, 90, 62),
    (104, 66, 46),
    (78, 50, 37),
)


@dataclass(frozen=True)
class Light:
    """One lamp and the ambient light; colours are linear RGB values."""

    direction: np.ndarray  # unit vector to the lamp: x right, y down, z to the viewer
    key: np.ndarray
    ambient: np.ndarray
    hardness: float  # from 0 (overcast sky) to 1 (spotlight)


@dataclass(frozen=True)
class Look:
    """The appearance of a hand; colours are linear RGB values from 0 to 1."""

    skin: np.ndarray
    palm: np.ndarray
    blush: np.ndarray
    nail: np.ndarray
    gloss: float
    mottle: float
    cloth: np.ndarray
    trim: np.ndarray
    weave: int  # 0 plain, 1 ribbed, 2 striped
    band: np.ndarray
    light: Light


def linear(srgb: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Convert sRGB values from 0 to 255 to linear values from 0 to 1, approximated by a power."""
    return (np.asarray(srgb, np.float64) / 255.0) ** 2.2


def any_colour(rng: np.random.Generator, vivid: float = 0.8) -> np.ndarray:
    """Return a random colour as sRGB values [3] from 0 to 255.

    Args:
        rng: Source of randomness.
        vivid: Largest saturation, from 0 to 1.
    """
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, vivid), rng.uniform(0.12, 0.95))
    return np.array(rgb) * 255


def skin_tone(rng: np.random.Generator) -> np.ndarray:
    """Return a random tone of skin as sRGB values [3] from 0 to 255, uniform over all tones."""
    position = rng.uniform(0, len(_SKIN) - 1.001)
    i = int(position)
    tone = np.array(_SKIN[i]) * (1 - position % 1) + np.array(_SKIN[i + 1]) * (position % 1)
    return np.clip(tone * rng.normal(1, (0.02, 0.025, 0.035)), 0, 255)


def sample(rng: np.random.Generator) -> Look:
    """Draw the skin, the clothes and the light of one image."""
    skin = linear(skin_tone(rng))
    dark = 1 - float(np.clip(skin.mean() / 0.45, 0, 1))
    # The darker the skin is, the more the palm differs from the back of the hand.
    pale = np.array([0.60, 0.34, 0.24])
    palm = skin * np.array([1.02, 0.97, 0.94]) * (1 - 0.45 * dark) + pale * (0.45 * dark)
    blush = palm * np.array([1.05, 0.66, 0.60])
    nail = palm * 0.8 + 0.2 * np.array([0.75, 0.5, 0.45])
    if rng.random() < 0.12:
        nail = linear(any_colour(rng, 1.0))
    return Look(
        skin=skin,
        palm=palm,
        blush=blush,
        nail=nail,
        gloss=float(rng.uniform(0.02, 0.13)),
        mottle=float(rng.uniform(0.01, 0.04)),
        cloth=linear(any_colour(rng)),
        trim=linear(any_colour(rng)),
        weave=int(rng.integers(3)),
        band=linear(any_colour(rng)),
        light=_light(rng),
    )


def _light(rng: np.random.Generator) -> Light:
    azimuth = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.75:  # most lamps are above the hand
        azimuth = rng.normal(-np.pi / 2, 0.9)
    height = np.radians(rng.uniform(25, 70))
    direction = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    warmth = rng.normal(0, 0.10)
    tint = np.array([1 + warmth, 1.0, 1 - warmth * 1.3])
    hardness = float(rng.uniform(0.25, 1.0))
    strength = rng.uniform(0.85, 1.15)
    return Light(
        direction=direction,
        key=strength * (0.55 + 0.65 * hardness) * tint,
        ambient=strength * (0.62 - 0.34 * hardness) * (2 - tint) * rng.uniform(0.8, 1.1),
        hardness=hardness,
    )
