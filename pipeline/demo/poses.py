"""Draws the pose of a hand at random, for each gesture.

All numbers are angles of joints in degrees, or positions in the coordinates of the hand (see
`skeleton`). Their ranges are so wide that images of a gesture differ, and so narrow that a person
still recognises it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABELS = ("paper", "rock", "scissors")


@dataclass(frozen=True)
class Pose:
    """Angles of the joints in radians, proportions of the hand, and the direction of the view."""

    flexion: tuple[tuple[float, ...], ...]  # bending of four fingers with three joints each
    spread: tuple[float, ...]  # sideways angles of four fingers
    thumb: np.ndarray  # [3, 3]: points at which its bones aim, in coordinates of the hand
    thumb_back: np.ndarray  # approximate direction in which its nail faces
    girth: float  # relative thickness; the mean is 1
    length: float  # relative length of the fingers; the mean is 1
    left: bool
    yaw: float  # 0 shows the back of the hand, π the palm
    pitch: float  # positive values tilt the fingers towards the viewer
    roll: float  # rotation in the plane of the image
    wrist_tilt: float
    wrist_flex: float
    arm_length: float
    sleeve: float | None  # position on the arm at which the sleeve begins; None for a bare arm
    sleeve_slack: float
    cuff: float  # width of the cuff; 0 for none
    band: float | None  # position of a watch or bracelet on the arm; None for none


def sample(label: str, rng: np.random.Generator) -> Pose:
    """Draw a pose.

    Args:
        label: The gesture, one of `LABELS`.
        rng: Source of randomness.

    Raises:
        KeyError: The label is unknown.
    """
    gesture = {"rock": _rock, "paper": _paper, "scissors": _scissors}[label]
    flexion, spread, thumb, thumb_back, yaw, pitch = gesture(rng)
    sleeve = rng.uniform(0.12, 0.75) if rng.random() < 0.6 else None
    band = rng.uniform(0.22, 0.35) if rng.random() < 0.15 else None
    if sleeve is not None and band is not None and sleeve < band + 0.2:
        band = None
    left = bool(rng.random() < 0.5)
    return Pose(
        flexion=tuple(tuple(float(v) for v in np.radians(row)) for row in flexion),
        spread=tuple(float(v) for v in np.radians(spread)),
        thumb=thumb + rng.normal(0.0, 0.02, (3, 3)),
        thumb_back=thumb_back,
        girth=float(rng.uniform(0.88, 1.14)),
        length=float(rng.uniform(0.92, 1.1)),
        left=left,
        yaw=float(np.radians(-yaw if left else yaw)),
        pitch=float(np.radians(pitch)),
        roll=float(np.radians(_roll(rng))),
        wrist_tilt=float(np.radians(rng.uniform(-18, 18))),
        wrist_flex=float(np.radians(rng.uniform(-22, 22))),
        arm_length=float(rng.uniform(3.0, 3.6)),
        sleeve=sleeve,
        sleeve_slack=float(rng.uniform(0.0, 0.09)),
        cuff=float(rng.uniform(0.1, 0.3)) if rng.random() < 0.6 else 0.0,
        band=band,
    )


_Gesture = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float]


def _roll(rng: np.random.Generator) -> float:
    """Return a rotation in degrees. Most hands are upright, and some come from the side."""
    if rng.random() < 0.85:
        return float(rng.normal(0, 20))
    return float(rng.choice((-90, 90)) + rng.normal(0, 16))


def _curled(rng: np.random.Generator, tightness: float = 1.0) -> np.ndarray:
    """Return the angles [4, 3] of the joints of closed fingers."""
    shared = np.array([85.0, 108.0, 66.0]) * tightness + rng.normal(0, (4, 4, 6))
    return shared + rng.normal(0, 3.0, (4, 3))


def _rock(rng: np.random.Generator) -> _Gesture:
    flexion = _curled(rng, rng.uniform(0.95, 1.04))
    spread = np.array([-1.0, 0.0, 1.0, 3.0]) + rng.normal(0, 1.0, 4)
    if rng.random() < 0.8:  # the thumb lies across the fingers
        thumb = np.array([(-0.36, 0.57, -0.35), (-0.30, 0.84, -0.57), (-0.05, 0.83, -0.68)])
        back = np.array([-0.3, 0.5, -1.0])
    else:  # or along the side of the index finger
        thumb = np.array([(-0.41, 0.51, -0.29), (-0.46, 0.78, -0.37), (-0.42, 0.96, -0.52)])
        back = np.array([-1.0, 0.2, -0.3])
    view = rng.random()
    if view < 0.35:
        yaw, pitch = rng.uniform(-30, 30), rng.uniform(5, 45)
    elif view < 0.7:
        yaw, pitch = 180 + rng.uniform(-35, 35), rng.uniform(-20, 20)
    else:  # from the side of the thumb
        yaw, pitch = 90 + rng.uniform(-25, 25), rng.uniform(-16, 16)
    return flexion, spread, thumb, back, float(yaw), float(pitch)


def _paper(rng: np.random.Generator) -> _Gesture:
    relaxed = rng.uniform(0, 1)
    flexion = np.array([2.0, 6.0, 4.0]) + relaxed * np.array([6.0, 12.0, 8.0])
    flexion = flexion + rng.normal(0, (5, 4, 3), (4, 3))
    spread = np.array([-13.0, -2.0, 8.5, 20.0]) * rng.uniform(0.75, 1.4) + rng.normal(0, 2.0, 4)
    open_ = rng.uniform(0.0, 1.0)  # 0: the thumb lies along the palm; 1: it is spread
    near = np.array([(-0.46, 0.46, -0.16), (-0.56, 0.78, -0.20), (-0.60, 1.02, -0.20)])
    far = np.array([(-0.58, 0.36, -0.14), (-0.90, 0.52, -0.16), (-1.14, 0.66, -0.14)])
    thumb = near * (1 - open_) + far * open_
    yaw = rng.choice((0.0, 180.0)) + rng.uniform(-28, 28)
    return flexion, spread, thumb, np.array([-0.6, 0.5, 0.9]), float(yaw), rng.uniform(-24, 24)


def _scissors(rng: np.random.Generator) -> _Gesture:
    flexion = _curled(rng, rng.uniform(0.93, 1.03))
    flexion[:2] = np.array([3.0, 7.0, 5.0]) + rng.normal(0, (5, 4, 3), (2, 3))
    opening = rng.uniform(28, 48)
    tilt = rng.normal(0, 3)
    spread = np.array([tilt - opening * 0.55, tilt + opening * 0.45, 2.0, 5.0])
    spread[2:] += rng.normal(0, 1.5, 2)
    thumb = np.array([(-0.35, 0.52, -0.35), (-0.19, 0.74, -0.57), (0.07, 0.75, -0.68)])
    yaw = rng.choice((0.0, 180.0)) + rng.uniform(-28, 28)
    back = np.array([-0.2, 0.5, -1.0])
    return flexion, spread, thumb, back, float(yaw), rng.uniform(-20, 20)
