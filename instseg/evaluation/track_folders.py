"""Folders of tracks compared with true ones, frame by frame."""

from instseg.errors import InstsegError, format_names
from instseg.evaluation.tracking import TrackScorer, TrackScores
from instseg.inference.options import ProgressCallback, no_progress
from instseg.io.atomic import StrPath
from instseg.io.ctc import find_ctc
from instseg.io.label_images import read_labels


def score_track_folders(truth: StrPath, result: StrPath, progress: ProgressCallback = no_progress) -> TrackScores:
    """Compare the tracks in a folder with true ones.

    Parameters
    ----------
    truth : path-like
        `01_GT` of the Cell Tracking Challenge or its `TRA`, or what `instseg data generate` made with `frames`.
    result : path-like
        A folder of `maskNNN.tif` and `res_track.txt`.
    progress : callable
        Takes how many frames are done, of how many, and a text.

    Raises
    ------
    InstsegError
        If a folder holds no tracks, a frame of the truth has no result, or files are damaged or differ in size.
    """
    true, found = find_ctc(truth), find_ctc(result)
    wanted = true.masks.keys() | true.segmented.keys()
    lacking = sorted(wanted - found.masks.keys())
    if lacking:
        raise InstsegError(
            f"{truth} has frames without a label image in {result} ({format_names(lacking)}); give the results of all"
        )
    scorer = TrackScorer(true.table, found.table)
    for number, frame in enumerate(sorted(wanted), start=1):
        ours = read_labels(found.masks[frame], prediction=True)
        labels = None
        try:
            if frame in true.masks:
                labels = read_labels(true.masks[frame], prediction=True)
                scorer.add(frame, labels, ours)
            if frame in true.segmented:
                same = labels is not None and true.segmented[frame] == true.masks.get(frame)
                whole = labels if same and labels is not None else read_labels(true.segmented[frame], prediction=True)
                scorer.add_segmentation(whole, ours)
        except InstsegError as error:
            raise error.located(found.masks[frame]) from error
        progress(number, len(wanted), "")
    return scorer.scores()
