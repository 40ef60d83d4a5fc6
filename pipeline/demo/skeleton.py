"""Builds the bones of a hand in a pose. Each bone is a cone with round ends.

In the coordinates of the hand, the wrist is the origin, +y points to the fingers, +z points out of
the back of the hand, and the thumb is at −x. This is a right hand seen from the back, of which a
left hand is the mirror image. One unit is the distance from the wrist to the knuckle of the middle
finger, about 88 mm for an adult.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from imgpipe.pipeline.demo.poses import Pose

SKIN, THUMB_TIP, FINGER_TIP, SLEEVE, CUFF, BAND = range(6)

# Anthropometric means: x, y and z of the knuckle, lengths of the phalanges, radius at each joint.
_FINGERS = (
    ((-0.315, 0.965, 0.000), (0.455, 0.265, 0.185), (0.136, 0.113, 0.098, 0.083)),
    ((-0.105, 1.000, 0.040), (0.510, 0.305, 0.205), (0.140, 0.116, 0.100, 0.086)),
    ((0.105, 0.955, 0.030), (0.470, 0.290, 0.200), (0.132, 0.109, 0.095, 0.081)),
    ((0.300, 0.865, -0.010), (0.370, 0.215, 0.180), (0.115, 0.096, 0.084, 0.072)),
)
_CARPALS = ((-0.165, 0.08, -0.01), (-0.055, 0.06, 0.02), (0.06, 0.06, 0.01), (0.165, 0.10, -0.02))
_THUMB_ROOT = (-0.205, 0.14, -0.07)
_THUMB_LENGTHS = (0.47, 0.35, 0.25)
_THUMB_RADII = (0.165, 0.122, 0.110, 0.088)
_BACK = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Bone:
    """A cone with round ends, in the coordinates of the hand.

    Attributes:
        a: Centre of the first end.
        b: Centre of the second end.
        ra: Radius at `a`.
        rb: Radius at `b`.
        blend: Depth over which the bone is blended with the bones before it.
        part: Part of the hand or arm, such as `SKIN` or `SLEEVE`.
        dorsal: Unit vector to the back of the bone.
        blush: Redness of the skin at both ends, from 0 to 1.
        joint: Whether the skin has wrinkles at `a`.
    """

    a: np.ndarray
    b: np.ndarray
    ra: float
    rb: float
    blend: float
    part: int = SKIN
    dorsal: np.ndarray = field(default_factory=lambda: _BACK)
    blush: tuple[float, float] = (0.0, 0.0)
    joint: bool = False


@dataclass(frozen=True)
class Skeleton:
    """The bones of a hand, and the creases of its palm as polylines [n, 3]."""

    bones: list[Bone]
    creases: list[np.ndarray]
    hand_bones: int  # number of the first bones that are the hand; the others are arm and clothes


def build(pose: Pose) -> Skeleton:
    """Build the bones of a hand in a pose, with its arm."""
    girth = pose.girth
    bones = [*_palm(girth), *_thumb(pose)]
    if sum(pose.flexion[3]) > 2.0:  # in a closed hand, the palm is folded under the fingertips
        a, b = np.array([-0.24, 0.56, -0.25]), np.array([0.22, 0.54, -0.22])
        bones.append(Bone(a, b, 0.15 * girth, 0.15 * girth, 0.10, blush=(0.3, 0.3)))
    for finger in range(4):
        bones += _finger(pose, finger)
    count = len(bones)
    bones += _arm(pose)
    return Skeleton(bones, _palm_creases(girth), count)


def _palm(girth: float) -> Iterator[Bone]:
    ends = [np.array(f[0]) for f in _FINGERS]
    starts = [np.array(c) for c in _CARPALS]
    for i in range(4):
        yield Bone(starts[i], ends[i], 0.175 * girth, 0.142 * girth, 0.16, blush=(0.0, 0.55))
        if i:  # fills the gaps between two metacarpals
            a, b = (starts[i - 1] + starts[i]) / 2, (ends[i - 1] + ends[i]) / 2
            yield Bone(a, b - (0, 0.02, 0.015), 0.17 * girth, 0.125 * girth, 0.16, blush=(0, 0.25))
    heel = np.array([0.20, 0.17, -0.09])
    yield Bone(heel, np.array([0.30, 0.62, -0.07]), 0.165 * girth, 0.13 * girth, 0.14)
    pad = np.array([-0.24, 0.82, -0.06])
    yield Bone(pad, np.array([0.24, 0.76, -0.07]), 0.12 * girth, 0.115 * girth, 0.14)


def _chain(root: np.ndarray, targets: np.ndarray, lengths: tuple[float, ...]) -> list[np.ndarray]:
    """Return the joints of a chain of bones that begins at `root` and aims at `targets` in turn."""
    joints = [root]
    previous = root
    for target, length in zip(targets, lengths, strict=True):
        step = target - previous
        joints.append(joints[-1] + step * (length / np.linalg.norm(step)))
        previous = target
    return joints


def _thumb(pose: Pose) -> Iterator[Bone]:
    girth = pose.girth
    joints = _chain(np.array(_THUMB_ROOT), pose.thumb, _THUMB_LENGTHS)
    # The nail faces away from the palm, across the last bone and out of the plane of bending.
    axis = joints[3] - joints[2]
    axis = axis / np.linalg.norm(axis)
    outward = pose.thumb_back - axis * (pose.thumb_back @ axis)
    dorsal = outward / np.linalg.norm(outward)
    radii = [r * girth for r in _THUMB_RADII]
    yield Bone(joints[0], joints[1], radii[0], radii[1], 0.15, dorsal=dorsal, blush=(0, 0.3))
    # The ball of the thumb, and the web of skin towards the index finger.
    ball = joints[0] * 0.35 + joints[1] * 0.65
    yield Bone(np.array([-0.08, 0.22, -0.11]), ball, 0.15 * girth, 0.135 * girth, 0.16)
    for share, along in ((0.55, 0.50), (0.80, 0.66)):
        edge = np.array(_CARPALS[0]) * (1 - along) + np.array(_FINGERS[0][0]) * along
        start = joints[0] * (1 - share) + joints[1] * share
        yield Bone(start, edge, 0.10 * girth, 0.11 * girth, 0.12)
    yield Bone(joints[1], joints[2], radii[1], radii[2], 0.05, SKIN, dorsal, (0.3, 0.5), True)
    yield Bone(joints[2], joints[3], radii[2], radii[3], 0.03, THUMB_TIP, dorsal, (0.5, 0.6), True)


def _finger(pose: Pose, finger: int) -> Iterator[Bone]:
    """Yield the bones of a finger; flexion bends it to the palm (−z), spread turns it sideways."""
    knuckle, lengths, radii = _FINGERS[finger]
    spread = pose.spread[finger]
    outward = np.array([np.sin(spread), np.cos(spread), 0.0])
    start = joint = np.array(knuckle)
    # Fingers that close also move together, to the root of the thumb.
    inward = np.array([0.25 * (knuckle[0] + 0.03), 0.0, 1.0])
    inward /= np.linalg.norm(inward)
    bent = 0.0
    blush = (0.55, 0.45, 0.35, 0.6)
    for i in range(3):
        bent += pose.flexion[finger][i]
        axis = np.cos(bent) * outward - np.sin(bent) * inward
        dorsal = np.cos(bent) * inward + np.sin(bent) * outward
        end = joint + axis * lengths[i] * pose.length
        yield Bone(
            a=joint,
            b=end,
            ra=radii[i] * pose.girth,
            rb=radii[i + 1] * pose.girth,
            blend=(0.09, 0.02, 0.02)[i],
            part=FINGER_TIP if i == 2 else SKIN,
            dorsal=dorsal,
            blush=(blush[i], blush[i + 1]),
            joint=i > 0,
        )
        if i < 2:  # the knuckle is a little thicker than the bones on either side
            bump = end + dorsal * 0.012
            r = radii[i + 1] * pose.girth * 1.03
            yield Bone(end, bump, r, r, 0.03, SKIN, dorsal, (blush[i + 1],) * 2)
        if i == 1 and bent > 2.0:  # fills the hollow of a bent finger
            flesh = 0.5 * (start + joint) - 0.05 * outward, 0.5 * (joint + end) - 0.01 * _BACK
            wide = radii[1] * pose.girth
            yield Bone(*flesh, wide, 0.9 * wide, 0.03, SKIN, -outward, blush=(0.7, 0.7))
        start, joint = joint, end


def _arm(pose: Pose) -> Iterator[Bone]:
    """Yield the wrist, the forearm, and what is worn on it."""
    down = np.array([np.sin(pose.wrist_tilt), -np.cos(pose.wrist_tilt), 0.0])
    down = np.cos(pose.wrist_flex) * down + np.sin(pose.wrist_flex) * _BACK
    side = np.array([np.cos(pose.wrist_tilt), np.sin(pose.wrist_tilt), 0.0])
    girth = pose.girth
    yield Bone(np.array([0, 0.12, 0.0]), 0.25 * down, 0.20 * girth, 0.19 * girth, 0.2)

    def tube(start: float, end: float, extra: float, blend: float, part: int) -> Iterator[Bone]:
        for sign in (-1.0, 1.0):
            a = start * down + side * sign * 0.125 * (1 + 0.25 * start)
            b = end * down + side * sign * 0.125 * (1 + 0.25 * end)
            widths = [(0.185 + 0.045 * t) * girth + extra for t in (start, end)]
            yield Bone(a, b, widths[0], widths[1], blend, part)

    yield from tube(0.0, pose.arm_length, 0.0, 0.2, SKIN)
    if pose.band is not None:
        yield from tube(pose.band, pose.band + 0.13, 0.035, 0.002, BAND)
    if pose.sleeve is not None:
        yield from tube(pose.sleeve + 0.06, pose.arm_length, 0.05 + pose.sleeve_slack, 0.01, SLEEVE)
        if pose.cuff:
            cuff = pose.sleeve + pose.cuff
            yield from tube(pose.sleeve, cuff, 0.065 + pose.sleeve_slack, 0.01, CUFF)


def _palm_creases(girth: float) -> list[np.ndarray]:
    """Return the three main lines of the palm, just below its surface at z < 0."""
    z = -0.14 * girth
    lines = (
        ((0.40, 0.66), (0.22, 0.62), (0.02, 0.68), (-0.14, 0.80), (-0.20, 0.90)),
        ((-0.42, 0.70), (-0.22, 0.64), (0.02, 0.52), (0.22, 0.38)),
        ((-0.42, 0.72), (-0.24, 0.66), (-0.08, 0.50), (-0.02, 0.30), (-0.04, 0.10)),
    )
    return [np.array([(x, y, z) for x, y in line]) for line in lines]
