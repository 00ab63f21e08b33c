"""What a label might be told from without looking at the part: the file, its place in an order, plain statistics.

Each cue is a few numbers per image for a classifier, and words for what it turns out to know.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

CUES = (
    "file format", "image size", "colour mode", "file size", "brightness", "contrast", "sharpness", "border", "colour",
    "file order", "time stamp",
)  # fmt: skip

_GREY = 0.01  # mean difference between the channels below which an image has no colour, as JPEG leaves it
_FASTEST = 1.0  # seconds per file: files that were written faster were copied or unpacked, not taken
_REPEATED = 0.1  # share of the images whose number another class also has, from which numbers count anew in each class
_PURE = 0.8  # share of a class between its first and last image from which they count as one block
_RUNS = 10  # parts of the order that are compared where the class is no block
_SIZES = 30  # more different image sizes than this are compared as areas

_OF_THE_FILE = (
    "It has nothing to do with the part, and a model may learn what comes with it (compression, resampling) instead: "
    "save all images alike."
)
_OF_THE_PICTURE = "It may be the defect itself, or the lamp or the camera: compare images of both kinds."
_OF_THE_SIZE = "It may be the defect itself, or how the files were saved: compare images of both kinds."
_OF_THE_COLLECTION = (
    "A model never sees it; but if the images were taken in that order, it sees whatever changed meanwhile (lamp, "
    "lens, camera, product): mix the classes when images are taken, or name the lot in data.group_column."
)


@dataclass(frozen=True)
class Cue:
    """numbers: (N, d) float for a classifier, nan where unknown; empty where the cue says nothing, as `silence` tells.

    describe: from (N,) bool, the images of one class, to the fact that tells most about it. of_the_picture: the cue is
    measured on the pixels, so it may be the defect itself. in_sequence: it is a place in an order, in which a class may
    come in several runs. caution: what to make of it when the label can be told from it.
    """

    name: str
    numbers: np.ndarray
    silence: str
    describe: Callable[[np.ndarray], str]
    of_the_picture: bool
    in_sequence: bool
    caution: str


def make_cues(statistics: pd.DataFrame, paths: Sequence[str], labels: np.ndarray) -> list[Cue]:
    """One for each of CUES, in that order. statistics: the columns of the file pass, N rows; labels: (N,) str."""
    suffix = [PurePosixPath(path).suffix.lower() or "without an extension" for path in paths]
    file = [
        [str(value) for value in statistics["format"]],
        [f"named {value}" for value in suffix],
        ["of one page" if count <= 1 else f"of {count} pages" for count in statistics["frames"]],
        ["upright" if turn == 1 else f"turned (EXIF orientation {turn})" for turn in statistics["orientation"]],
    ]
    mode = [
        [f"of mode {value}" for value in statistics["mode"]],
        ["grey" if value < _GREY else "coloured" for value in statistics["colour"]],
    ]
    size = np.log10(statistics["bytes"].to_numpy(float).clip(min=1))
    return [
        _kinds("file format", file),
        _image_size(statistics["width"].to_numpy(float), statistics["height"].to_numpy(float)),
        _kinds("colour mode", mode),
        _measure(
            "file size",
            size,
            "larger",
            "smaller",
            show=lambda value: f"{10**value / 1000:.3g} kB",
            caution=_OF_THE_SIZE,
        ),
        _picture("brightness", statistics["brightness"], "brighter", "darker"),
        _picture("contrast", statistics["contrast"], "richer in contrast", "poorer in contrast"),
        _picture("sharpness", statistics["sharpness"], "sharper", "less sharp"),
        _picture("border", statistics["border"], "brighter at the border", "darker at the border"),
        _picture("colour", statistics["colour"], "more coloured", "less coloured"),
        _file_order(paths, labels),
        _time_stamp(statistics["modified"].to_numpy(float), np.asarray(paths)),
    ]


def _kinds(name: str, fields: list[list[str]]) -> Cue:
    """A cue of categories. fields: each with N words that can follow "are"."""
    known = {word: np.array(field, dtype=object) == word for field in fields for word in dict.fromkeys(field)}
    varied = {word: held for word, held in known.items() if not held.all()}
    numbers = np.stack(list(varied.values()), axis=1).astype(float) if varied else np.empty((len(fields[0]), 0))
    silence = f"All images are alike: {', '.join(known)}."
    return Cue(name, numbers, silence, lambda mine: _telling_kind(varied, mine), False, False, _OF_THE_FILE)


def _telling_kind(kinds: dict[str, np.ndarray], mine: np.ndarray) -> str:
    """The kind whose share in the class differs most from its share in the others."""
    shares = {word: (float(held[mine].mean()), float(held[~mine].mean())) for word, held in kinds.items()}
    # Of two kinds each is the other's opposite: then the one that the class has, not the one that it lacks.
    word = max(shares, key=lambda word: (round(abs(shares[word][0] - shares[word][1]), 3), shares[word][0]))
    own, other = shares[word]
    return f"{_share(own)} of its images are {word}, of the others {_share(other)}"


def _image_size(width: np.ndarray, height: np.ndarray) -> Cue:
    sizes = [f"{w:.0f} × {h:.0f} px" for w, h in zip(width, height, strict=True)]
    if len(set(sizes)) <= _SIZES:
        return _kinds("image size", [sizes])
    area = _measure(
        "image size",
        width * height / 1e6,
        "larger",
        "smaller",
        show=lambda value: f"{value:.2g} megapixels",
        caution=_OF_THE_FILE,
    )
    numbers = np.stack([width, height, width / height], axis=1)
    return Cue(area.name, numbers, "", area.describe, False, False, _OF_THE_FILE)


def _picture(name: str, values: pd.Series, more: str, less: str) -> Cue:
    def show(value: float) -> str:
        return f"{value:.2f}".replace("-", "−")

    return _measure(name, values.to_numpy(float), more, less, show=show, caution=_OF_THE_PICTURE)


def _measure(name: str, values: np.ndarray, more: str, less: str, *, show: Callable[[float], str], caution: str) -> Cue:
    """A cue of one number that depends on the picture. more, less: what a class is that has more or less of it."""

    def describe(mine: np.ndarray) -> str:
        own, other = float(np.median(values[mine])), float(np.median(values[~mine]))
        word = more if own > other else less
        return f"its images are {word}: median {show(own)}, of the others {show(other)}"

    numbers = np.empty((len(values), 0)) if np.ptp(values) == 0 else values[:, None]
    silence = f"All images are alike: {show(float(values[0]))}."
    return Cue(name, numbers, silence, describe, True, False, caution)


def _file_order(paths: Sequence[str], labels: np.ndarray) -> Cue:
    """The numbers in the file name, compared from left to right.

    Folders and the class's own name are left out: they carry the label as a matter of course.
    """
    keys = [_numbers_in(PurePosixPath(path).stem, label) for path, label in zip(paths, labels, strict=True)]
    code, _ = pd.factorize(pd.Series(keys, dtype=object))
    held = pd.DataFrame({"key": code, "label": labels}).groupby("key")["label"].nunique()
    silence = ""
    if not any(keys):
        silence = "Not informative: the file names hold no numbers."
    elif (held > 1).to_numpy()[code].mean() > _REPEATED:
        silence = "Not informative: the numbers in the file names count anew in each class."
    place = {key: number for number, key in enumerate(sorted(set(keys)))}
    rank = np.array([place[key] for key in keys], dtype=float)
    return _sequence("file order", rank, silence, lambda row: PurePosixPath(paths[row]).name)


def _numbers_in(stem: str, label: str) -> tuple[int, ...]:
    if not label.isdigit():
        stem = re.sub(re.escape(label), " ", stem, flags=re.IGNORECASE)
    return tuple(int(digits) for digits in re.findall(r"[0-9]+", stem))


def _time_stamp(modified: np.ndarray, paths: np.ndarray) -> Cue:
    known = np.isfinite(modified)
    times = modified[known]
    # Tiles of one image share its file.
    files = len(np.unique(paths[known]))
    silence = ""
    if known.mean() < 0.5:
        silence = "Not informative: most files have no time stamp."
    elif np.ptp(times) < _FASTEST * files:
        silence = (
            f"Not informative: all {files:,} files were written within {np.ptp(times):.3g} s, as copying or unpacking "
            "does."
        )

    def show(row: int) -> str:
        return pd.Timestamp(modified[row], unit="s").strftime("%Y-%m-%d %H:%M")

    return _sequence("time stamp", modified, silence, show)


def _sequence(name: str, place: np.ndarray, silence: str, show: Callable[[int], str]) -> Cue:
    """A cue of a place in an order. show: from a row to the words for its place."""

    def describe(mine: np.ndarray) -> str:
        rows = np.argsort(place, kind="stable")[: np.isfinite(place).sum()]  # nan comes last
        own = rows[mine[rows]]
        first, last = own[len(own) // 20], own[-1 - len(own) // 20]
        purity = mine[(place >= place[first]) & (place <= place[last])].mean()
        if purity >= _PURE:
            return (
                f"nine tenths of its images lie between {show(first)} and {show(last)}, and {_share(purity)} of the "
                "images there are of that class"
            )
        runs = sorted(np.array_split(rows, _RUNS), key=lambda run: mine[run].mean() if len(run) else 0.5)
        low, high = runs[0], runs[-1]
        return (
            f"from {show(high[0])} to {show(high[-1])} {_share(mine[high].mean())} of the images are of that class, "
            f"from {show(low[0])} to {show(low[-1])} {_share(mine[low].mean())}"
        )

    numbers = np.empty((len(place), 0)) if silence else place[:, None]
    return Cue(name, numbers, silence, describe, False, True, _OF_THE_COLLECTION)


def _share(share: float) -> str:
    if share in (0.0, 1.0):
        return "all" if share else "none"
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else f"{100 * share:.1f} %"
