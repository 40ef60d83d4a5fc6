"""Computes the colours of a hand: skin with nails and wrinkles, clothes, light and shadow."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from imgpipe.pipeline.demo.look import Look
from imgpipe.pipeline.demo.skeleton import BAND, CUFF, FINGER_TIP, SLEEVE, THUMB_TIP
from imgpipe.pipeline.demo.surface import FAR, Surface
from imgpipe.pipeline.demo.view import Framed


def soft_noise(
    rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 1
) -> np.ndarray:
    """Return smooth noise [height, width], with values from about −1 to 1.

    Args:
        rng: Source of randomness.
        height: Height in pixels.
        width: Width in pixels.
        cells: Number of waves along the longer side.
        octaves: Number of layers of noise, each with twice the waves and half the weight.
    """
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    for octave in range(octaves):
        n = cells * 2**octave / max(height, width)
        grid = rng.standard_normal((max(2, int(height * n) + 1), max(2, int(width * n) + 1)))
        wave = Image.fromarray(grid.astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        total += weight * np.asarray(wave) / 1.5
        weight *= 0.5
    return total


def blurred(values: np.ndarray, radius: int) -> np.ndarray:
    """Blur an array [H, W] over about `radius` pixels, by smoothing a smaller copy twice."""
    height, width = values.shape
    factor = max(1, radius // 2)
    size = (max(2, width // factor), max(2, height // factor))
    small = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
    for _ in range(2):
        edge = np.pad(small, 1, mode="edge")
        rows = edge[:-2] + 2 * edge[1:-1] + edge[2:]
        small = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 16)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def shadow(height: np.ndarray, direction: np.ndarray, reach: float, softness: float) -> np.ndarray:
    """Compute which share of the lamp is hidden at each pixel, by steps from it to the lamp.

    Args:
        height: Height of each pixel towards the viewer, in pixels [H, W].
        direction: Unit vector to the lamp: x right, y down, z to the viewer.
        reach: Length of a shadow in pixels.
        softness: Depth in pixels at which a shadow is fully dark.

    Returns:
        Values [H, W] from 0 (lit) to 1 (fully hidden).
    """
    flat = direction[:2] / np.linalg.norm(direction[:2])
    rise = direction[2] / np.linalg.norm(direction[:2])
    steps = 24
    pad = int(reach) + 1
    padded = np.pad(height, pad, constant_values=FAR)
    rows, cols = height.shape
    hidden = np.zeros_like(height)
    for i in range(1, steps + 1):
        far = reach * (i / steps) ** 1.4
        dx, dy = round(flat[0] * far), round(flat[1] * far)
        if not dx and not dy:
            continue
        other = padded[pad + dy : pad + dy + rows, pad + dx : pad + dx + cols]
        # Without the last term, the rounding of the step would shade slopes.
        gap = other - (height + np.float32(np.hypot(dx, dy) * rise + softness * 0.15))
        hidden = np.maximum(hidden, gap * np.float32(1 / (softness * (0.35 + far / reach))))
    return np.clip(hidden, 0, 1)


def hand_colour(
    surface: Surface, framed: Framed, look: Look, shade: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Compute the colours of the hand.

    Args:
        surface: The visible surface.
        framed: The skeleton in pixels.
        look: The appearance.
        shade: Shares of the lamp and of the sky that are hidden, [2, H, W] from 0 to 1.
        rng: Source of randomness.

    Returns:
        Linear RGB values [3, H, W], which are 0 outside of the hand.
    """
    inside = np.flatnonzero(surface.owner.ravel() >= 0)
    owner = surface.owner.ravel()[inside]
    along = surface.along.ravel()[inside]
    normal = surface.normal.reshape(3, -1)[:, inside]
    bones = framed.bones
    part = np.array([b.part for b in bones])[owner]
    dorsal = np.array([b.dorsal for b in bones], np.float32).T[:, owner]
    back = (normal * dorsal).sum(0)
    albedo = _skin(surface, framed, look, inside, owner, along, back, rng)
    gloss = np.full(owner.shape, look.gloss, np.float32)
    _paint_nails(surface, framed, look, inside, owner, back, albedo, gloss)
    worn = part >= SLEEVE
    if worn.any():
        _dress(framed, look, part, owner, along, albedo)
        gloss[worn & (part != BAND)] *= 0.1
    lit = _light(look, albedo, normal, gloss, shade.reshape(2, -1)[:, inside], ~worn)
    out = np.zeros((3, surface.height.size), np.float32)
    out[:, inside] = lit
    return out.reshape(3, *surface.height.shape)


def _skin(
    surface: Surface,
    framed: Framed,
    look: Look,
    inside: np.ndarray,
    owner: np.ndarray,
    along: np.ndarray,
    back: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the albedo [3, n] of the skin, with the palm, redness, wrinkles and lines."""
    rows, cols = shape = surface.height.shape
    palm = np.clip(0.35 - 0.9 * back, 0, 1)
    palm = (palm * palm * (3 - 2 * palm)).astype(np.float32)
    palm = _feathered(palm, inside, shape, round(0.10 * framed.unit))
    skin, palm_tone, blush = (
        c[:, None].astype(np.float32) for c in (look.skin, look.palm, look.blush)
    )
    albedo = skin + palm * (palm_tone - skin)
    ends = np.array([b.blush for b in framed.bones], np.float32)[owner]
    red = ends[:, 0] + along * (ends[:, 1] - ends[:, 0])
    red = red * 0.6 + 0.12 * soft_noise(rng, rows, cols, 7).ravel()[inside]
    albedo += np.clip(red, 0, 1) * (blush - albedo)
    albedo *= 1 + look.mottle * soft_noise(rng, rows, cols, 22, 2).ravel()[inside]
    joint = np.array([b.joint for b in framed.bones])[owner]
    length = np.array([np.linalg.norm(b.b - b.a) for b in framed.bones], np.float32)[owner]
    place = along * length / np.float32(framed.unit)  # distance from the joint in units of the hand
    ripples = (0.55 + 0.45 * np.cos(place * 2 * np.pi / 0.045)) * np.exp(-((place / 0.06) ** 2))
    fold = np.exp(-(((place - 0.02) / 0.02) ** 2))
    crease = np.where(back > 0, 0.20 * ripples * np.clip(2 * back, 0, 1), 0.34 * fold)
    dark = np.where(joint, crease, 0) + _lines(framed, shape).ravel()[inside] * palm * (
        ~joint & (owner < 16)
    )
    return albedo * (1 - dark * np.array([[0.75], [1.0], [1.0]], np.float32))


def _feathered(
    values: np.ndarray, inside: np.ndarray, shape: tuple[int, int], radius: int
) -> np.ndarray:
    """Smooth the values [n] of the pixels `inside`, so that no edges between bones are visible."""
    planes = np.zeros((2, shape[0] * shape[1]), np.float32)
    planes[0, inside] = values
    planes[1, inside] = 1
    total, weight = (blurred(plane.reshape(shape), radius).ravel()[inside] for plane in planes)
    return np.clip(total / np.maximum(weight, 0.05), 0, 1)


def _lines(framed: Framed, shape: tuple[int, int]) -> np.ndarray:
    """Return the darkness [H, W] of the lines of the palm; 0 if the palm is not visible."""
    if framed.palm[2] < 0.15:
        return np.zeros(shape, np.float32)
    image = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(image)
    for line in framed.creases:
        pen.line(_curve(line[:, :2]), fill=90, width=max(1, round(framed.unit * 0.016)))
    return blurred(np.asarray(image, np.float32), 2) / 255


def _curve(points: np.ndarray) -> list[tuple[float, float]]:
    """Return a smooth line through points [n, 2], a Catmull-Rom spline with 6 pieces per point."""
    p = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, 6, endpoint=False)[:, None]
    out = []
    for i in range(1, len(p) - 2):
        a, b, c, d = p[i - 1 : i + 3]
        poly = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
        out += [tuple(v) for v in 0.5 * (poly + (3 * (b - c) + d - a) * t**3)]
    return out


def _paint_nails(
    surface: Surface,
    framed: Framed,
    look: Look,
    inside: np.ndarray,
    owner: np.ndarray,
    back: np.ndarray,
    albedo: np.ndarray,
    gloss: np.ndarray,
) -> None:
    """Paint a nail on the last bone of each finger, by changing `albedo` and `gloss`."""
    width = surface.height.shape[1]
    for index, bone in enumerate(framed.bones):
        if bone.part not in (FINGER_TIP, THUMB_TIP):
            continue
        here = np.flatnonzero((owner == index) & (back > 0.2))
        axis = bone.b - bone.a
        size = float(np.linalg.norm(axis))
        if not here.size or size < 1:
            continue
        axis = axis / size
        side = np.cross(axis, bone.dorsal)
        middle = bone.a + axis * (size * 0.86)
        flat = inside[here]
        p = np.stack([flat % width, flat // width, surface.height.ravel()[flat]]) - middle[:, None]
        v = (axis @ p) / (bone.rb * 1.05)
        u = (side @ p) / (bone.rb * 0.74)
        # The nail is a rounded rectangle with a darker rim.
        r = (np.abs(u) ** 3 + np.abs(v) ** 3).astype(np.float32)
        nail = np.clip((1.0 - r) * 4, 0, 1)
        rim = np.exp(-(((r - 1.05) / 0.25) ** 2)) * 0.22
        tip = np.clip((v - 0.72) * 6, 0, 1) * 0.5
        tone = look.nail[:, None] * (1 - tip) + tip * (0.5 * look.nail[:, None] + 0.4)
        albedo[:, here] = albedo[:, here] * (1 - rim) * (1 - nail) + nail * tone
        gloss[here] += nail * 0.22


def _dress(
    framed: Framed,
    look: Look,
    part: np.ndarray,
    owner: np.ndarray,
    along: np.ndarray,
    albedo: np.ndarray,
) -> None:
    """Paint the sleeve, the cuff and the band, by changing `albedo`."""
    length = np.array([np.linalg.norm(b.b - b.a) for b in framed.bones], np.float32)[owner]
    place = along * length / np.float32(framed.unit)
    sleeve, cuff = part == SLEEVE, part == CUFF
    cloth = np.repeat(look.cloth[:, None], owner.size, axis=1)
    if look.weave == 1:
        cloth *= 0.82 + 0.18 * np.sin(place * 2 * np.pi / 0.07)
    elif look.weave == 2:
        striped = np.sin(place * 2 * np.pi / 0.42) > 0.2
        cloth[:, striped] = look.trim[:, None]
    albedo[:, sleeve] = cloth[:, sleeve]
    trim = look.trim if look.weave != 1 else look.cloth * 0.8
    albedo[:, cuff] = trim[:, None] * (0.9 + 0.1 * np.sin(place[cuff] * 2 * np.pi / 0.03))
    albedo[:, part == BAND] = look.band[:, None]


def _light(
    look: Look,
    albedo: np.ndarray,
    normal: np.ndarray,
    gloss: np.ndarray,
    shade: np.ndarray,
    skin: np.ndarray,
) -> np.ndarray:
    """Return the light [3, n] that a surface reflects. In skin, red light enters the shadow."""
    f = np.float32
    light = look.light
    facing = light.direction.astype(f) @ normal
    half = light.direction + np.array([0, 0, 1.0])
    half = (half / np.linalg.norm(half)).astype(f)
    shine = np.clip(half @ normal, 0, 1) ** 24 * gloss
    sun, sky = 1 - shade[0] * f(0.9), 1 - shade[1]
    dome = f(0.72) - f(0.28) * normal[1] + f(0.1) * normal[2]  # more sky from above; y points down
    out = np.empty_like(albedo)
    for c, bleed in enumerate((0.32, 0.16, 0.11)):
        wrap = np.where(skin, f(bleed), f(0.08))
        lamp = np.clip((facing + wrap) / (1 + wrap), 0, 1)
        bent = sun if c else sun ** f(0.8)
        out[c] = albedo[c] * (f(light.ambient[c]) * dome * sky + f(light.key[c]) * lamp * bent)
        out[c] += f(light.key[c]) * shine * sun
    return out
