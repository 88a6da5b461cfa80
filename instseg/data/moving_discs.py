"""Generated sequences: bright discs that move, grow and divide, with their tracks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from instseg.data.discs import paint_discs
from instseg.settings import DiscSettings

MAX_FRAMES = 10_000
"""Most frames of a sequence: their names have four digits."""

_DEFAULTS = DiscSettings()
# Pixels per frame: the change of a velocity, and the share of it that stays.
_PUSH, _STAYS = 0.7, 0.8
# Squared radius at which a disc divides, and after division.
_LARGEST, _SMALLEST = 135.0, 55.0
# How much larger the area is from frame to frame, at least and at most.
_GROWTH = (1.02, 1.06)
# Discs keep this share of the sum of their radii apart, by moving half of what is missing each time.
_APART, _ROUNDS = 1.0, 8


class _Discs:
    """The discs that are there; arrays have a row for each."""

    def __init__(self, rng: np.random.Generator, settings: DiscSettings) -> None:
        self.settings = settings
        low, high = settings.min_discs, settings.max_discs
        count = int(rng.integers(low, max(low, (low + high) // 2), endpoint=True))
        self.centres = rng.uniform(0, settings.size, (count, 2))
        self.velocities = rng.normal(0, 1, (count, 2))
        self.squared_radii = rng.uniform(_SMALLEST, _LARGEST, count)
        self.grays = rng.uniform(35_000, 45_000, count)
        # The track of each, 0 before it is first seen, and what that comes from.
        self.tracks = np.zeros(count, np.int64)
        self.parents = np.zeros(count, np.int64)
        self._keep_apart()

    def step(self, rng: np.random.Generator) -> None:
        """Go on to the next frame."""
        self.velocities = _STAYS * self.velocities + rng.normal(0, _PUSH, self.velocities.shape)
        self.centres += self.velocities
        self._leave()
        self.squared_radii *= rng.uniform(*_GROWTH, len(self.grays))
        self._divide(rng)
        self._keep_apart()
        # One that cannot divide stays as large as it is.
        np.minimum(self.squared_radii, _LARGEST, out=self.squared_radii)

    def _leave(self) -> None:
        """Forget discs that are outside, as they do not come back."""
        radii = np.sqrt(self.squared_radii)[:, None]
        kept = ((self.centres > -radii) & (self.centres < self.settings.size - 1 + radii)).all(axis=1)
        for name in ("centres", "velocities", "squared_radii", "grays", "tracks", "parents"):
            setattr(self, name, getattr(self, name)[kept])

    def _divide(self, rng: np.random.Generator) -> None:
        ready = np.flatnonzero(self.squared_radii >= _LARGEST)[: self.settings.max_discs - len(self.grays)]
        angles = rng.uniform(0, np.pi, len(ready))
        shares = rng.uniform(0.4, 0.6, len(ready))
        radii = self.squared_radii[ready]
        axis = np.stack([np.sin(angles), np.cos(angles)], axis=1) * np.sqrt(radii / 2)[:, None]
        mothers = self.tracks[ready]
        self.centres = np.concatenate([self.centres, self.centres[ready] - axis])
        self.centres[ready] += axis
        self.velocities = np.concatenate([self.velocities, self.velocities[ready]])
        self.squared_radii = np.concatenate([self.squared_radii, radii * shares])
        self.squared_radii[ready] = radii * (1 - shares)
        self.grays = np.concatenate([self.grays, self.grays[ready]])
        self.tracks = np.concatenate([self.tracks, np.zeros(len(ready), np.int64)])
        self.tracks[ready] = 0
        self.parents = np.concatenate([self.parents, mothers])
        self.parents[ready] = mothers

    def _keep_apart(self) -> None:
        for _ in range(_ROUNDS):
            radii = np.sqrt(self.squared_radii)
            offsets = self.centres[:, None] - self.centres[None]
            distances = np.sqrt((offsets**2).sum(axis=2))
            missing = np.maximum(_APART * (radii[:, None] + radii[None]) - distances, 0)
            np.fill_diagonal(missing, 0)
            directions = offsets / np.maximum(distances, 1e-9)[..., None]
            self.centres += (directions * missing[..., None] / 2).sum(axis=1)


@dataclass(slots=True)
class DiscTracks:
    """The tracks of a sequence, as `man_track.txt` of the Cell Tracking Challenge lists them.

    Attributes
    ----------
    begin, end, parent : list of int
        First and last frame of each track, 1 at the position 0, and the track it comes from, 0 for none.
    """

    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)

    def _see(self, frame: int, track: int, parent: int) -> int:
        """Note that a disc is seen, and return its track: a new one if it was not seen in the frame before."""
        if track and self.end[track - 1] == frame - 1:
            self.end[track - 1] = frame
            return track
        self.begin.append(frame)
        self.end.append(frame)
        self.parent.append(track or parent)
        return len(self.begin)


def draw_moving_discs(
    frames: int, seed: int = 0, settings: DiscSettings = _DEFAULTS, tracks: DiscTracks | None = None
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int32]]]:
    """Draw the frames of discs that move, grow, and divide in two once they are large.

    Discs move by about a pixel and a half from frame to frame, with a speed that changes slowly. Each takes from 15 to
    45 frames to divide, where there are fewer than `max_discs`. They push each other away, and may leave the image.

    Time is O(frames (pixels + discs²)).

    Parameters
    ----------
    frames : int
        How many.
    seed : int
        Frame I depends on this and I only.
    settings : DiscSettings
        Size, number of discs in the first frame and at most, and noise.
    tracks : DiscTracks, optional
        Takes the tracks; complete when all frames are drawn.

    Yields
    ------
    image : (size, size) uint16
        As `instseg.data.discs.paint_discs` draws it.
    labels : (size, size) int32
        0 is background, other values are those of the tracks.
    """
    tracks = DiscTracks() if tracks is None else tracks
    rng = np.random.default_rng([seed, 1])
    discs = _Discs(rng, settings)
    ground = float(rng.uniform(4_000, 12_000))
    for frame in range(frames):
        if frame:
            discs.step(rng)
        noise = np.random.default_rng([seed, 2, frame])
        image, labels = paint_discs(noise, settings, ground, discs.centres, discs.squared_radii, discs.grays)
        seen = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(discs.grays) + 1)[1:])
        for disc in seen.tolist():
            track, parent = int(discs.tracks[disc]), int(discs.parents[disc])
            discs.tracks[disc] = tracks._see(frame, track, parent)
        track_of = np.concatenate([[0], discs.tracks]).astype(np.int32)
        yield image, track_of[labels]
