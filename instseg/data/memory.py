"""Training data that fit into memory: all pairs are read before the training."""

from collections.abc import Callable, Mapping, Sequence

from instseg.data.classes import ClassNames, class_indices, sort_class_names
from instseg.data.samples import Sample, SampleReader, Scale, common_channels, rescaled
from instseg.data.survey import FolderSurvey
from instseg.errors import InstsegError
from instseg.io.folders import Pair


class MemorySamples:
    """The samples of a training, in memory.

    Parameters
    ----------
    reader : SampleReader
    training_pairs, validation_pairs : sequence of Pair
        A pair can be in both.
    progress : callable
        Is called with the number of images read so far and of all.
    survey : FolderSurvey
        Takes all pairs.

    Attributes
    ----------
    measured : sequence of Path
        The training label images, whose instances tell the typical size.
    channels : int
        Of all images.
    class_names : tuple of str
        Of the classes 1..K; `set_class_names` gives samples their classes.

    Raises
    ------
    InstsegError
        If a file cannot be read, the numbers of channels differ, or there are no instances in
        the training images, or in a folder of its own to validate on.
    """

    def __init__(
        self,
        reader: SampleReader,
        training_pairs: Sequence[Pair],
        validation_pairs: Sequence[Pair],
        progress: Callable[[int, int], None],
        survey: FolderSurvey,
    ) -> None:
        pairs = list(dict.fromkeys([*training_pairs, *validation_pairs]))
        samples: dict[Pair, Sample] = {}
        names: dict[Pair, ClassNames] = {}
        for number, pair in enumerate(pairs, start=1):
            samples[pair] = reader.read(pair, survey)
            if (of_image := reader.class_names(pair, samples[pair].labels, survey)) is not None:
                names[pair] = of_image
            progress(number, len(pairs))
        self.class_names = sort_class_names(name for of_image in names.values() for name in of_image.values())
        self.channels = common_channels(samples)
        _check_instances(reader, samples, training_pairs, validation_pairs)
        _check_validation(reader, samples, validation_pairs, survey)
        self.measured = [pair.labels for pair in training_pairs]
        self._samples, self._names = samples, names
        self._training_pairs, self._validation_pairs = training_pairs, validation_pairs

    def set_class_names(self, order: Sequence[str]) -> None:
        """Give the samples classes, whose numbers 1..K follow from the order of their names.

        Raises
        ------
        InstsegError
            If an instance has no class.
        """
        for pair, of_image in self._names.items():
            # Where no instance of the folder has a class, this raises the error that says so.
            classes = class_indices(self._samples[pair].labels, of_image, order, str(pair.labels))
            if order:
                self._samples[pair] = self._samples[pair]._replace(classes=classes)

    def training(self, scale: Scale) -> tuple[Sequence[Sample], int | None]:
        """Return the training samples at a scale, and how many of them patches are cut from at a time: None for all."""
        training = [self._samples[pair] for pair in self._training_pairs]
        if scale != 1:
            kept = set(self._validation_pairs)
            for number, pair in enumerate(self._training_pairs):
                training[number] = rescaled(training[number], scale)
                if pair not in kept:
                    # So that memory does not hold all samples twice.
                    del self._samples[pair]
        return training, None

    def validation(self, scale: Scale = 1.0) -> Sequence[Sample]:
        """Return the validation samples at a scale."""
        return [rescaled(self._samples[pair], scale) for pair in self._validation_pairs]


def _check_instances(
    reader: SampleReader,
    samples: Mapping[Pair, Sample],
    training_pairs: Sequence[Pair],
    validation_pairs: Sequence[Pair],
) -> None:
    if any(_holds_instance(samples[pair]) for pair in training_pairs):
        return
    if any(_holds_instance(samples[pair]) for pair in validation_pairs if reader.is_in_folder(pair)):
        raise InstsegError(
            f"only the {len(validation_pairs)} images of {reader.folder} kept for validation hold instances, "
            f"not the {len(training_pairs)} to train on; give another `seed`, or a folder of its own by `val`"
        )
    raise InstsegError(
        f"no label in {reader.folder} holds an instance, expected some pixels above 0; check the label images"
    )


def _check_validation(
    reader: SampleReader, samples: Mapping[Pair, Sample], validation_pairs: Sequence[Pair], survey: FolderSurvey
) -> None:
    """Refuse validation images without any instance, or warn of those that chance has chosen."""
    if not validation_pairs or any(_holds_instance(samples[pair]) for pair in validation_pairs):
        return
    of_folder = [pair for pair in validation_pairs if reader.is_in_folder(pair)]
    if not of_folder:
        folder = validation_pairs[0].labels.parent.parent
        raise InstsegError(
            f"none of the {len(validation_pairs)} label images of {folder} holds an instance, expected some to "
            "validate on; check them, or leave `val` out"
        )
    what = f"none of the images kept for validation holds an instance ({len(of_folder)}), so that scores say nothing"
    survey.add("warning", what, "give another `seed`, or a folder of its own by `val`")


def _holds_instance(sample: Sample) -> bool:
    return bool((sample.labels > 0).any())
