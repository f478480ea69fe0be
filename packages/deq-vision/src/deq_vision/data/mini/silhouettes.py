"""Outlines of objects in a street (persons, cars, buses, trees), and their parts: glass, wheels, faces."""

import numpy as np

from deq_vision.data.mini.street import BUS, CAR, PERSON, Mover

OUTSIDE, BODY, GLASS, DARK, SKIN = range(-1, 4)
PART_COLOURS = np.array([(0, 0, 0), (58, 66, 78), (36, 36, 40), (196, 158, 136)], dtype=np.float64)
"""RGB of glass, dark parts (wheels, legs) and skin, by part; the body has its own material."""


def silhouette(mover: Mover, across: np.ndarray, up: np.ndarray, time: float) -> np.ndarray:
    """The part of a mover at positions `across` (-1 to 1, left to right) and `up` (0 to 1, from the ground)."""
    if mover.kind == PERSON:
        return person(across, up, mover, time)
    if mover.kind == CAR:
        return car_side(across, up) if mover.pose == "side" else car_front(across, up)
    if mover.kind == BUS:
        return bus(across, up, windows=5 if mover.pose == "side" else 1)
    return tree(across, up, mover.phase)


def person(across: np.ndarray, up: np.ndarray, mover: Mover, time: float) -> np.ndarray:
    """Head, trunk, and two legs that walk at the person's speed."""
    parts = np.full(across.shape, OUTSIDE)
    stride = 0.5 * np.sin(mover.phase + 4.0 * time * np.hypot(*mover.velocity) / 0.35)
    for side in (-1, 1):
        foot = 0.25 * side + side * stride * (1 - up / 0.5)
        parts[(np.abs(across - foot) < 0.24) & (up < 0.5) & (up >= 0)] = DARK
    trunk = (up >= 0.42) & (up < 0.84) & (np.abs(across) < 0.75 - 1.2 * np.abs(up - 0.7))
    parts[trunk] = BODY
    parts[(across / 0.34) ** 2 + ((up - 0.92) / 0.085) ** 2 < 1] = SKIN
    return parts


def car_side(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A low body on two wheels, with a cabin over its middle."""
    parts = np.full(across.shape, OUTSIDE)
    parts[(np.abs(across) < 0.97) & (up >= 0.18) & (up < 0.62)] = BODY
    cabin = np.abs(across) < 0.62 - 0.5 * (up - 0.62)
    parts[cabin & (up >= 0.6) & (up < 1)] = BODY
    parts[cabin & (np.abs(across) < 0.5) & (np.abs(across) > 0.05) & (up >= 0.66) & (up < 0.92)] = GLASS
    for centre in (-0.6, 0.6):
        parts[((across - centre) / 0.17) ** 2 + ((up - 0.2) / 0.22) ** 2 < 1] = DARK
    return parts


def car_front(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A body as wide as the wheels, and a narrower cabin with one window."""
    parts = np.full(across.shape, OUTSIDE)
    parts[(np.abs(across) < 0.9) & (np.abs(across) > 0.55) & (up >= 0) & (up < 0.3)] = DARK
    parts[(np.abs(across) < 0.97) & (up >= 0.15) & (up < 0.6)] = BODY
    cabin = np.abs(across) < 0.85 - 0.35 * (up - 0.55) / 0.45
    parts[cabin & (up >= 0.6) & (up < 1)] = BODY
    parts[cabin & (np.abs(across) < 0.66) & (up >= 0.64) & (up < 0.92)] = GLASS
    return parts


def bus(across: np.ndarray, up: np.ndarray, *, windows: int) -> np.ndarray:
    """A tall box with a row of windows, on wheels."""
    parts = np.full(across.shape, OUTSIDE)
    parts[(np.abs(across) < 0.85) & (np.abs(across) > 0.55) & (up >= 0) & (up < 0.14)] = DARK
    parts[(np.abs(across) < 0.98) & (up >= 0.09) & (up < 1)] = BODY
    column = (across + 0.9) / 1.8 * windows
    pane = np.abs(column - np.floor(column) - 0.5) < 0.42
    parts[pane & (np.abs(across) < 0.9) & (up >= 0.5) & (up < 0.85)] = GLASS
    return parts


def tree(across: np.ndarray, up: np.ndarray, phase: float) -> np.ndarray:
    """A trunk below a crown with an uneven edge."""
    parts = np.full(across.shape, OUTSIDE)
    parts[(np.abs(across) < 0.07) & (up >= 0) & (up < 0.5)] = DARK
    x, y = across, (up - 0.66) / 0.34
    angle = np.arctan2(y, x)
    edge = 0.82 + 0.1 * np.sin(3 * angle + phase) + 0.07 * np.sin(7 * angle + 2 * phase)
    parts[np.hypot(x, y) < edge] = BODY
    return parts
