"""The camera, which turns a hand and fits it into the image in perspective."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from imgpipe.pipeline.demo.poses import Pose
from imgpipe.pipeline.demo.skeleton import Bone, Skeleton

CAMERA_DISTANCE = 7.0  # units of the hand (0.6 m), for visible perspective without distortion


@dataclass(frozen=True)
class Framed:
    """A skeleton in pixels: x right, y down, z to the viewer."""

    bones: list[Bone]
    creases: list[np.ndarray]
    palm: np.ndarray  # unit vector out of the palm
    unit: float  # length in pixels of a unit of the hand


def frame(skeleton: Skeleton, pose: Pose, width: int, height: int, fill: float) -> Framed:
    """Turn a skeleton and fit the hand, without the arm, into the image.

    Args:
        skeleton: The skeleton.
        pose: The pose, which holds the direction of the view.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        fill: Share of the shorter side that the hand takes; above 1 the hand is cut off.
    """
    turn = _rotation(pose)
    a = np.array([b.a for b in skeleton.bones]) @ turn.T
    b = np.array([b.b for b in skeleton.bones]) @ turn.T
    hand = slice(0, skeleton.hand_bones)
    ra = np.array([x.ra for x in skeleton.bones])
    rb = np.array([x.rb for x in skeleton.bones])
    points, radii = np.concatenate([a[hand], b[hand]]), np.concatenate([ra[hand], rb[hand]])
    near = _nearness(points)[:, None]
    low = (points[:, :2] * near - radii[:, None] * near).min(0)
    high = (points[:, :2] * near + radii[:, None] * near).max(0)
    extent = high - low
    unit = fill * min(width / extent[0], height / extent[1], 1.25 * min(width, height))
    offset = np.array([width, height]) / 2 - unit * (low + high) / 2

    def place(p: np.ndarray) -> np.ndarray:
        n = _nearness(p)
        return np.column_stack([p[:, :2] * n[:, None] * unit + offset, p[:, 2] * unit])

    pa, pb, na, nb = place(a), place(b), _nearness(a), _nearness(b)
    bones = [
        dataclasses.replace(
            bone,
            a=pa[i],
            b=pb[i],
            ra=float(ra[i] * na[i] * unit),
            rb=float(rb[i] * nb[i] * unit),
            blend=bone.blend * unit,
            dorsal=turn @ bone.dorsal,
        )
        for i, bone in enumerate(skeleton.bones)
    ]
    creases = [place(line @ turn.T) for line in skeleton.creases]
    return Framed(bones, creases, turn @ np.array([0.0, 0.0, -1.0]), unit)


def _nearness(points: np.ndarray) -> np.ndarray:
    """Return the scale of the perspective at each point [n, 3], which is 1 at z = 0."""
    return CAMERA_DISTANCE / np.maximum(CAMERA_DISTANCE - points[:, 2], 1.0)


def _rotation(pose: Pose) -> np.ndarray:
    """Return the matrix [3, 3] from coordinates of the hand to those of the image.

    It mirrors a left hand and turns y down.
    """
    cy, sy = np.cos(pose.yaw), np.sin(pose.yaw)
    cp, sp = np.cos(pose.pitch), np.sin(pose.pitch)
    cr, sr = np.cos(pose.roll), np.sin(pose.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    mirror = np.diag([-1.0 if pose.left else 1.0, 1.0, 1.0])
    return np.diag([1.0, -1.0, 1.0]) @ roll @ pitch @ yaw @ mirror


def moved(framed: Framed, by: np.ndarray) -> Framed:
    """Return the same hand, shifted by (x, y) pixels."""
    step = np.array([by[0], by[1], 0.0])
    bones = [dataclasses.replace(b, a=b.a + step, b=b.b + step) for b in framed.bones]
    return dataclasses.replace(
        framed, bones=bones, creases=[line + step for line in framed.creases]
    )
