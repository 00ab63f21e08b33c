"""What the file pass shows of files that hold something else than their images and masks are taken for."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from components.display import counted

#: Bits of usual cameras, and of 8-bit pictures that were saved in 16.
USUAL_BITS = (8, 10, 12, 14)
#: A few dark images among bright ones are no second way of storing.
FEWEST_OF_A_KIND, LEAST_SHARE = 2, 0.05
#: Shares of an image that a mask marks: more is unusual, and hardly a defect.
UNUSUAL_COVER, WHOLE_COVER = 0.5, 0.9


def file_warnings(
    statistics: pd.DataFrame, listed: pd.DataFrame, good_labels: Sequence[str], *, significant_bits: int | None
) -> tuple[str, ...]:
    """Sentences on 16-bit files whose range is not used, and on masks that are inverted, empty or on good images.

    statistics: a row per framed image: path, peak (see `DecodedImage`) and defect_area. listed: path, label and mask of
    each file, as its source names them.
    """
    found = [
        bit_depth_warning(statistics.drop_duplicates("path")["peak"].dropna(), significant_bits),
        *_mask_warnings(statistics, listed, good_labels),
    ]
    return tuple(sentence for sentence in found if sentence)


def bit_depth_warning(peaks: pd.Series, significant_bits: int | None) -> str | None:
    """Peaks: the largest sample of each file of 16 bits. significant_bits: how many of them were taken to count."""
    if significant_bits and not len(peaks):
        return (
            f"data.significant_bits={significant_bits} has no effect: all files have 8 bits, or say themselves how "
            "many count."
        )
    taken = significant_bits or 16
    for bits in (bits for bits in USUAL_BITS if bits < taken and len(peaks)):
        low = peaks[peaks < 2**bits]
        files = counted(len(peaks), "file")
        if len(low) == len(peaks):
            return (
                f"no pixel above {2**bits - 1} in {files} of 16 bits, of which {taken} count: where they hold "
                f"{bits} bits, right-aligned, set data.significant_bits: {bits}; with the present setting "
                f"the images are {2 ** (taken - bits)} times too dark."
            )
        few = len(low) < max(FEWEST_OF_A_KIND, LEAST_SHARE * len(peaks))
        # Two ways of storing leave a gap between them; dark and bright images of one camera do not.
        if not few and low.max() >= 2 ** (bits - 1) and peaks[peaks >= 2**bits].min() >= 2 ** (bits + 1):
            return (
                f"{len(low):,} of {files} of 16 bits have no pixel above {2**bits - 1}, and the others reach "
                f"{int(peaks[peaks >= 2**bits].min())} and more: values seem to be stored in two ways, and the former "
                f"images are far too dark; data.significant_bits: {bits} is for all files, so store them in one way."
            )
    return None


def _mask_warnings(statistics: pd.DataFrame, listed: pd.DataFrame, good_labels: Sequence[str]) -> list[str]:
    cover = statistics.groupby("path")["defect_area"].mean().dropna()
    labels = listed.set_index("path")["label"].astype("str").loc[cover.index]
    good = labels.isin(list(good_labels))
    sentences = []
    unusual = cover[cover > UNUSUAL_COVER]
    if len(unusual) > len(cover) / 2 or (cover > WHOLE_COVER).any():
        sentences.append(
            f"{len(unusual):,} of {counted(len(cover), 'mask')} mark more than half of their image as defective (the "
            f"first: that of {unusual.index[0]}): a mask has to be white where the defect is and black elsewhere; "
            "invert those that are not."
        )
    empty = cover[~good & (cover == 0)]
    if len(empty):
        sentences.append(
            f"{counted(len(empty), 'defective image')} with a mask that marks nothing of what the model sees (the "
            f"first: {empty.index[0]})."
        )
    marked = cover[good & (cover > 0)]
    if len(marked):
        sentences.append(
            f"{counted(len(marked), 'image')} of a good label with a mask that marks a defect (the first: "
            f"{marked.index[0]})."
        )
    return sentences
