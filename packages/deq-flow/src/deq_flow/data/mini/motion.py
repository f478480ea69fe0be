"""Smooth motion of a surface over time, and its inverse."""

from dataclasses import dataclass, replace

import numpy as np

TOLERANCE = 1e-6  # pixels
MAX_ITERATIONS = 60


@dataclass(frozen=True)
class Waves:
    """A smooth displacement field: a sum of n travelling sine waves, in pixels."""

    amplitude: np.ndarray
    """(n, 2), pixels."""
    wavevector: np.ndarray
    """(n, 2), radians per pixel."""
    phase: np.ndarray
    """(n,), radians."""
    rate: np.ndarray
    """(n,), radians per frame."""

    def __call__(self, points: np.ndarray, time: float) -> np.ndarray:
        """The displacement at points (2, ...), pixels."""
        total = np.zeros_like(points)
        for amplitude, wavevector, phase, rate in zip(
            self.amplitude, self.wavevector, self.phase, self.rate, strict=True
        ):
            wave = np.sin(wavevector[0] * points[0] + wavevector[1] * points[1] + (phase + rate * time))
            total[0] += amplitude[0] * wave
            total[1] += amplitude[1] * wave
        return total

    def steepness(self) -> float:
        """A bound on the change of the displacement per pixel."""
        return float((np.linalg.norm(self.amplitude, axis=1) * np.linalg.norm(self.wavevector, axis=1)).sum())


@dataclass(frozen=True)
class Motion:
    """Motion of a plane: translation, rotation and stretch about a centre, and ripples.

    The map from the frame at time t to the plane has the closed form p = c + A(t)^-1 (y - c - d(t)) + w(y, t), because
    rendering needs it at every pixel. Its inverse is computed as a fixed point.

    Raises:
        ValueError: the ripples are so steep that the surface could fold.
    """

    centre: np.ndarray
    """(2,) as (x, y), pixels: c."""
    velocity: np.ndarray
    """(2,), pixels per frame; with `acceleration` the path d(t)."""
    acceleration: np.ndarray
    """(2,), pixels per frame squared."""
    rotation: float
    """Radians per frame."""
    stretch: tuple[float, float]
    """Growth of the logarithm of the size per frame, along `axis` and across it."""
    axis: float
    """Radians."""
    waves: Waves
    """w(y, t)."""

    def __post_init__(self) -> None:
        if self.waves.steepness() > 0.5:
            raise ValueError(
                f"ripples must change by at most 0.5 pixels per pixel, got {self.waves.steepness():.2f}; "
                "lower their amplitude or lengthen their wavelength"
            )

    def to_plane(self, points: np.ndarray, time: float) -> np.ndarray:
        """The points of the plane that are seen at `points` (2, ...) of the frame at `time`."""
        centre, start = self.offsets(points.ndim, time)
        return centre + turn(np.linalg.inv(self.matrix(time)), points - start) + self.waves(points, time)

    def to_frame(self, plane: np.ndarray, time: float) -> np.ndarray:
        """The positions in the frame at `time` of points (2, ...) of the plane, to 1e-6 pixels.

        Raises:
            ArithmeticError: the fixed-point iteration does not converge, as can happen at extreme growth.
        """
        centre, start = self.offsets(plane.ndim, time)
        matrix = self.matrix(time)
        points = start + turn(matrix, plane - centre)
        for _ in range(MAX_ITERATIONS):
            previous = points
            points = start + turn(matrix, plane - centre - self.waves(points, time))
            if np.abs(points - previous).max(initial=0.0) < TOLERANCE:
                return points
        raise ArithmeticError(f"the motion at time {time} has no inverse: {self}")

    def at_rest(self) -> "Motion":
        """The motion of the same surface at rest."""
        still = np.zeros(2)
        waves = replace(self.waves, rate=np.zeros_like(self.waves.rate))
        return replace(self, velocity=still, acceleration=still, rotation=0.0, stretch=(0.0, 0.0), waves=waves)

    def matrix(self, time: float) -> np.ndarray:
        """The linear part A, (2, 2)."""
        axis = rotation_matrix(self.axis)
        return rotation_matrix(self.rotation * time) @ axis @ np.diag(np.exp(np.array(self.stretch) * time)) @ axis.T

    def offsets(self, ndim: int, time: float) -> tuple[np.ndarray, np.ndarray]:
        """The centre in the plane and in the frame, in a shape that broadcasts with points of `ndim` dimensions."""
        path = self.velocity * time + 0.5 * self.acceleration * time**2
        shape = (2,) + (1,) * (ndim - 1)
        return self.centre.reshape(shape), (self.centre + path).reshape(shape)


def rotation_matrix(angle: float) -> np.ndarray:
    """Rotation matrix (2, 2) from x towards y."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turn(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A matrix (2, 2) times points (2, ...), in a fixed order of operations, which no library's threads change."""
    return np.stack([row[0] * points[0] + row[1] * points[1] for row in matrix])
