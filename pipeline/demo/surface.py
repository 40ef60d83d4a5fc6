"""Computes the visible surface of bones: height, normal vector and bone of each pixel.

In the direction of z, the highest point of a cone with round ends has a closed form for each pixel.
So each bone takes about thirty NumPy operations on the pixels of its bounding box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgpipe.pipeline.demo.skeleton import Bone

FAR = np.float32(-1e4)  # height where there is nothing


@dataclass(frozen=True)
class Surface:
    """The visible surface at each pixel of an image [H, W]: x right, y down, z to the viewer."""

    height: np.ndarray  # float32; FAR where there is no bone
    normal: np.ndarray  # float32 [3, H, W]; unit vectors where there is a bone
    owner: np.ndarray  # int16: index of the bone in front; −1 where there is none
    along: np.ndarray  # float32: position along that bone, from 0 to 1


def rasterize(bones: list[Bone], height: int, width: int) -> Surface:
    """Blend bones, whose coordinates are pixels, into one surface, in the given order."""
    shape = (height, width)
    top = np.full(shape, FAR, np.float32)
    normal = np.zeros((3, *shape), np.float32)
    owner = np.full(shape, -1, np.int16)
    along = np.zeros(shape, np.float32)
    for index, bone in enumerate(bones):
        box = _box(bone, height, width)
        if box is None:
            continue
        z, n, s = _cone(bone, box)
        won = _melt(top[box], normal[:, box[0], box[1]], z, n, bone.blend)
        owner[box][won] = index
        along[box][won] = s[won]
    normal /= np.sqrt(np.maximum((normal * normal).sum(0), 1e-6))
    return Surface(top, normal, owner, along)


def _box(bone: Bone, height: int, width: int) -> tuple[slice, slice] | None:
    low = np.minimum(bone.a[:2] - bone.ra, bone.b[:2] - bone.rb)
    high = np.maximum(bone.a[:2] + bone.ra, bone.b[:2] + bone.rb)
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]) + 2, width), min(int(high[1]) + 2, height)
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def _cone(bone: Bone, box: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return height [h, w], normal [3, h, w] and position [h, w] along a bone of its visible side.

    The spheres of the sweep have centre a + s·d and radius ra − s·t, s in 0..1. Over the pixel q
    (from a) sphere s reaches a_z + s·d_z + sqrt(A + 2Bs − Cs²) with A = ra² − q², B = q·d − ra·t,
    C = d_x² + d_y² − t². This is concave in s, so its maximum clipped to 0..1 is the answer.
    """
    f = np.float32
    d = bone.b - bone.a
    t = bone.ra - bone.rb
    x = np.arange(box[1].start, box[1].stop, dtype=f)[None, :] - f(bone.a[0])
    y = np.arange(box[0].start, box[0].stop, dtype=f)[:, None] - f(bone.a[1])
    big_a = f(bone.ra**2) - (x * x + y * y)
    big_b = x * f(d[0]) + (y * f(d[1]) - f(bone.ra * t))
    big_c = d[0] ** 2 + d[1] ** 2 - t * t
    if big_c > 1e-3:
        reach = np.maximum(big_a + big_b * big_b * f(1 / big_c), 0)
        s = big_b * f(1 / big_c) + np.sqrt(reach) * f(d[2] / (big_c * (big_c + d[2] ** 2)) ** 0.5)
        s = np.clip(s, 0, 1)
    else:  # the bone points to the viewer, so its nearer end hides the rest
        s = np.full(big_a.shape, f(d[2] > 0))
    q = big_a + s * (2 * big_b - s * f(big_c))
    root = np.sqrt(np.maximum(q, 0))
    z = np.where(q > 0, f(bone.a[2]) + s * f(d[2]) + root, 2 * FAR)
    per_radius = 1 / (f(bone.ra) - s * f(t))
    n = np.empty((3, *z.shape), f)
    n[0] = (x - s * f(d[0])) * per_radius
    n[1] = (y - s * f(d[1])) * per_radius
    n[2] = root * per_radius
    return z, n, s


def _melt(
    top: np.ndarray, normal: np.ndarray, z: np.ndarray, n: np.ndarray, blend: float
) -> np.ndarray:
    """Change `top` to the smooth maximum of `top` and `z`, and blend the normals accordingly.

    Returns:
        Where `z` is the larger one, bool [h, w].
    """
    share = np.clip(0.5 + (z - top) * np.float32(0.5 / blend), 0, 1)
    raised = share * (1 - share) * np.float32(blend)
    top += share * (z - top) + raised
    normal += share * (n - normal)
    return share > 0.5
