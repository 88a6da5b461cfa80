"""Part the sets of labelled images for the model of whatever people have, train it, and measure it kind by kind.

    python tests/benchmarks/general.py DATA RESULTS [--name NAME] [--leave-out SET ...] [--iterations N]
        [--only-score] [--specialists MINUTES [--steps-a-minute N]] [--picture FILE] [--speed]

DATA holds `SET/train/images` and `SET/train/labels` for each set. A share of each is kept for validation, images of one
patient, animal, movie or specimen on one side; RESULTS/data has links to both parts, and RESULTS/NAME the model, which
goes on where it was stopped. Sets that are left out are unseen kinds: all of their images are scored. Scores are those
of `instseg evaluate` without options: AP at IoU 0.5 and its mean over 0.50 to 0.90, also in RESULTS/NAME.json. With
`--specialists` a model of each set alone, trained for so many minutes, is scored beside, on the same images; with
`--steps-a-minute` the minutes are counted in steps, for machines with other work. The picture shows parts of images
that were kept back, of sets whose licences allow it. The speed is that of the model of the package on U2OS nuclei side
by side, of which it is sure, and on cells in phase contrast, which it sees at other sizes, too: the median of five,
with the diameter estimated and told.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapes
from table import INSTSEG, SELDOM, call, evaluate, link

OPTIONS = ("--channels", "rgb", "--augmentation", "strong", "--validation-every", "4000")
BEGINNING = "shapes"
ITERATIONS = 20_000
# Of the model of the package, each from the one before: what its name ends with, options, iterations. First the small
# network; then more channels where they cost the least time; as validation was still rising at the end of that, once
# more with a lower rate; and with larger and larger batches, as 8 patches have a few of the kinds only.
_STAGES = (
    ("-small", (), ITERATIONS),
    ("-wide", ("--network", "32,64,192,320", "--learning-rate", "0.005"), 24_000),
    ("-again", ("--learning-rate", "0.004"), 22_000),
    ("-batches", ("--batch-size", "32", "--learning-rate", "0.005"), 5_500),
    ("", ("--batch-size", "64", "--learning-rate", "0.006"), 3_000),
)

# Sets of gray and colour images together, which a model of such a set alone has to be told.
_IN_COLOUR = ("cellbindb_demo",)

_DRAWN = 1000
# Of the images of a set, by groups; none of a set that is one group, or of hardly any image.
_VALIDATION_SHARE, _LEAST_GROUPS = 1 / 8, 3

SOURCES = {
    "axon_sem_spinal": (
        "axons in SEM of rat spinal cord: AxonDeepSeg (data_axondeepseg_sem), MIT; A. Zaimi et al., Sci Rep "
        "8:3816 (2018)"
    ),
    "axon_tem_brain": (
        "axons in TEM of mouse brain: AxonDeepSeg (data_axondeepseg_srf_testing r20250513), MIT; DANDI "
        "001350; A. Zaimi et al., Sci Rep 8:3816 (2018)"
    ),
    "bbbc030_dic_cho": (
        "CHO cells in DIC: BBBC030v1, Broad Bioimage Benchmark Collection, CC BY 3.0, scaled and outlines "
        "filled; K. Koos et al., Sci Rep (2016), V. Ljosa et al., Nat Methods (2012)"
    ),
    "bbbc039_fluo_nuclei": (
        "U2OS nuclei in fluorescence: BBBC039v1, Broad Bioimage Benchmark Collection, CC0 1.0; J. Caicedo et "
        "al. (2018), V. Ljosa et al., Nat Methods (2012)"
    ),
    "cellbindb_demo": (
        "nuclei and membranes in DAPI, ssDNA, H&E and mIF: CellBinDB, CC0 1.0, two images of 10x Genomics, CC "
        "BY 4.0; C. Shi et al., GigaScience 14:giaf069 (2025)"
    ),
    "dsb2018": (
        "nuclei in fluorescence: BBBC038v1 (2018 Data Science Bowl, corrected masks), CC0 1.0; J. Caicedo et "
        "al., Nat Methods (2019)"
    ),
    "dsb2018_rgb": (
        "nuclei in stained tissue: BBBC038v1 (2018 Data Science Bowl), CC0 1.0; J. Caicedo et al., Nat Methods (2019)"
    ),
    "emps_em_particles": (
        "particles in electron micrographs: EMPS, MIT (annotations; the micrographs are from publications); "
        "B. Yildirim, J. M. Cole, J. Chem. Inf. Model. (2021), doi:10.1021/acs.jcim.0c01455"
    ),
    "nasa_superalloy_sem": (
        "precipitates in superalloys, SEM: nasa/pretrained-microscopy-models, MIT; J. Stuckner, B. Harder, T. "
        "M. Smith, npj Comput Mater 8:200 (2022)"
    ),
    "segmenteverygrain_gravel": (
        "gravel in photographs: segmenteverygrain, Apache-2.0; Z. Sylvester et al., JOSS, doi:10.21105/joss.07953"
    ),
    "tnbc_he_nuclei": (
        "nuclei in H&E of breast cancer: TNBC, CC BY 4.0, masks taken apart; P. Naylor, M. Lae, F. Reyal, T. "
        "Walter, IEEE Trans. Med. Imaging 38(2):448-459 (2019)"
    ),
    "usiigaci": "spindle-shaped cells in phase contrast: oist/Usiigaci, MIT; H.-F. Tsai et al., SoftwareX (2019)",
    "vnc_sstem_neurites": (
        "neurites in serial-section TEM of Drosophila: CC BY 4.0, scaled and taken apart; S. Gerhard, J. "
        "Funke, J. Martel, A. Cardona, R. Fetter, figshare (2013), doi:10.6084/m9.figshare.856713"
    ),
    "yeastvision_phase_yeast": (
        "budding yeast in phase contrast: yeastvision, BSD; B. Yalcinkaya, North Carolina State University"
    ),
}
"""What the card of a model says of each set: what it shows, where it is from, its licence, and whom to name."""

_TIMED = ("bbbc039_fluo_nuclei", "usiigaci")
_SIDE = 224
# Images that are kept back, and the part of each that is drawn.
_SHOWN = (
    ("bbbc039_fluo_nuclei", "IXMtest_B20_s2", np.s_[100:356, 100:356]),
    ("dsb2018_rgb", "0bf33d3db428", np.s_[:256, :256]),
    ("usiigaci", "train_set18", np.s_[100:356, 100:356]),
    ("axon_tem_brain", "sub-366A_sample-0004", np.s_[100:356, 100:356]),
    ("nasa_superalloy_sem", "Super1_spot5_180d_2", np.s_[100:356, 100:356]),
)

_ONE = "all"
# What images of one source have in common in their names.
_GROUPS: dict[str, Callable[[str], str]] = {
    "axon_sem_spinal": lambda stem: stem.rpartition("_")[0],
    "axon_tem_brain": lambda stem: stem.partition("_")[0],
    "nasa_superalloy_sem": lambda stem: "_".join(stem.split("_")[:2]),
    "tnbc_he_nuclei": lambda stem: stem.partition("_")[0],
    "usiigaci": lambda stem: "train_set23" if stem.startswith("train_set40") else stem,
    "vnc_sstem_neurites": lambda stem: _ONE,
    "yeastvision_phase_yeast": lambda stem: _ONE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("--name", default="general", help="of the model")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="SET", help="sets that it does not learn from")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--only-score", action="store_true", help="do not train")
    parser.add_argument(
        "--specialists", type=float, metavar="MINUTES", help="train a model of each set, and score these beside"
    )
    parser.add_argument("--steps-a-minute", type=int, metavar="N", help="count the specialists' minutes in steps")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw what the model of the package finds, instead"
    )
    parser.add_argument("--speed", action="store_true", help="time the model of the package, instead")
    options = parser.parse_args()
    if options.speed:
        speed(options.data)
        return
    if options.picture is not None:
        picture(options.data, options.picture)
        return
    if not options.only_score:
        train(options.data, options.results, options.name, options.leave_out, options.iterations)
    found = measure(options.data, options.results, options.name, options.leave_out)
    print_scores(found)
    if options.specialists is not None:
        print_specialists(found, options)


def sets(data: Path) -> list[str]:
    """Return the names of the sets in a folder, which have to be those that a card can name."""
    found = sorted(path.parent.parent.name for path in data.glob("*/train/labels"))
    if unknown := set(found) - SOURCES.keys():
        raise SystemExit(
            f"{data} holds {', '.join(sorted(unknown))}; say in SOURCES of this script where they are from"
        )
    return found


def train_widened(data: Path, results: Path, name: str) -> Path:
    """Train the model of the package on all sets: a small network, and from there a wider one, again and again."""
    beginning, model = BEGINNING, results / name
    for suffix, more, iterations in _STAGES:
        model = train(data, results, f"{name}{suffix}", [], iterations, beginning=beginning, more=more)
        beginning = str(model)
    return model


def stages(name: str, data: str) -> list[str]:
    """Return the arguments of the trainings of the model of the package, in words."""
    found, beginning = [], BEGINNING
    for suffix, more, iterations in _STAGES:
        options = " ".join((*more, *OPTIONS))
        found.append(f"{name}{suffix} {data} --from {beginning} {options} --iterations {iterations}")
        beginning = f"{name}{suffix}"
    return found


def train(
    data: Path,
    results: Path,
    name: str,
    left_out: list[str],
    iterations: int,
    *,
    beginning: str = BEGINNING,
    more: tuple[str, ...] = (),
) -> Path:
    """Train a model on all sets but some, and on drawn images; or go on with it."""
    drawn = results / "data" / "drawn"
    shapes.write(drawn, _DRAWN, seed=0)
    model = results / name
    command = [*INSTSEG, "train", str(model), *OPTIONS, "--iterations", str(iterations), "--data", str(drawn)]
    if (model / "instseg.json").exists():
        command.append("--resume")
    else:
        command += ["--from", beginning, *more]
    for one in sets(data):
        if one not in left_out:
            training, validation = part(data, results, one)
            command += ["--data", str(training)]
            command += ["--val", str(validation)] if validation else []
    call(command)
    return model


def part(data: Path, results: Path, name: str) -> tuple[Path, Path | None]:
    """Link the images of a set into a folder to train on and one to validate on, None where there would be too few."""
    labels = sorted((data / name / "train" / "labels").iterdir())
    group_of = _GROUPS.get(name, lambda stem: stem)
    groups: dict[str, list[Path]] = {}
    for path in labels:
        groups.setdefault(group_of(path.stem), []).append(path)
    held: list[Path] = []
    if len(groups) >= _LEAST_GROUPS:
        for group in sorted(groups, key=lambda one: hashlib.sha256(f"{name}/{one}".encode()).digest()):
            if len(held) >= _VALIDATION_SHARE * len(labels):
                break
            held += groups[group]
    target = results / "data" / "parts" / name
    for path in labels:
        of_part = target / ("val" if path in held else "train")
        link(path, of_part)
        link(path.parent.parent / "images" / path.name, of_part)
    return target / "train", target / "val" if held else None


def measure(
    data: Path, results: Path, name: str, left_out: list[str], model: str | None = None
) -> dict[str, dict[str, float]]:
    """Score a model, by default RESULTS/NAME, on the images that its training has not seen of each set."""
    found = {}
    for one in sets(data):
        folder = data / one / "train" if one in left_out else part(data, results, one)[1]
        if folder is None:
            continue
        target = results / f"{name}-{one}.json"
        evaluate(model or str(results / name), folder, target)
        figures = json.loads(target.read_text(encoding="utf-8"))
        ap = dict(zip(figures["thresholds"], figures["per_image"]["ap"], strict=True))
        found[one] = {
            "unseen": one in left_out,
            "images": figures["images"],
            "AP50": round(ap[0.5], 3),
            "mean AP": round(figures["per_image"]["mean_ap"], 3),
        }
    (results / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def print_scores(found: dict[str, dict[str, float]]) -> None:
    """Print a table, and the means over seen and unseen kinds."""
    for unseen in (False, True):
        rows = {name: row for name, row in found.items() if bool(row["unseen"]) == unseen}
        kind = "unseen" if unseen else ""
        for name, row in rows.items():
            print(f"{name:26} {kind:7} {row['images']:4} images  {row['AP50']:.3f}  {row['mean AP']:.3f}")
        if rows:
            means = [sum(row[key] for row in rows.values()) / len(rows) for key in ("AP50", "mean AP")]
            print(f"{'mean':26} {kind:7} {len(rows):4} kinds   {means[0]:.3f}  {means[1]:.3f}")


def print_specialists(found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """Train a model of each set alone, and print its AP at IoU 0.5 beside that of the model of all."""
    for one, row in found.items():
        if row["unseen"]:
            continue
        training, validation = part(options.data, options.results, one)
        minutes, steps = options.specialists, options.steps_a_minute
        model = options.results / "specialists" / f"{one}-{minutes:g}{f'-{steps}' if steps else ''}"
        length = ("--iterations", str(round(minutes * steps))) if steps else ("--minutes", f"{minutes:g}")
        channels = ("--channels", "rgb") if one in _IN_COLOUR else ()
        command = [*INSTSEG, "train", str(model), "--data", str(training), *length, *SELDOM, *channels]
        call([*command, "--resume"] if (model / "instseg.json").exists() else command)
        target = model.parent / f"{model.name}.json"
        evaluate(str(model), validation, target)
        figures = json.loads(target.read_text(encoding="utf-8"))
        alone = dict(zip(figures["thresholds"], figures["per_image"]["ap"], strict=True))[0.5]
        print(
            f"{one:26} alone {alone:.3f}, of all {row['AP50']:.3f}, difference {row['AP50'] - alone:+.3f}", flush=True
        )


def picture(data: Path, target: Path) -> None:
    """Draw what the model of the package finds, without options, in parts of images that it has not learnt from."""
    from instseg import load
    from instseg.io.images import read_image, write_picture
    from instseg.visualization.pictures import hstack, overlay

    model = load("general")
    pictures = []
    for name, image, part in _SHOWN:
        pixels = read_image(data / name / "train" / "images" / f"{image}.png")
        found = overlay(pixels[part], model.predict(pixels)[part])
        pictures.append(found[:_SIDE, :_SIDE])
    write_picture(target, hstack(*pictures))


def speed(data: Path) -> None:
    """Print how many megapixels a second the model of the package predicts."""
    from instseg import load
    from instseg.io.images import read_image

    model = load("general")
    for name in _TIMED:
        files = iter(sorted((data / name / "train" / "images").iterdir()))
        mosaic = np.vstack([np.hstack([read_image(next(files))[:511, :511] for _ in range(4)]) for _ in range(4)])
        for side in (511, 1022, 2044):
            image = mosaic[:side, :side]
            for diameter in (None, model.settings.diameter):
                model.predict(image, diameter=diameter)
                seconds = []
                for _ in range(5):
                    begin = time.perf_counter()
                    model.predict(image, diameter=diameter)
                    seconds.append(time.perf_counter() - begin)
                told = "estimated" if diameter is None else "told"
                rate = side**2 / np.median(seconds) / 1e6
                print(f"{name}, {side} x {side}, diameter {told}: {rate:.2f} megapixels/s", flush=True)


if __name__ == "__main__":
    main()
