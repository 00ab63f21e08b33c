"""`mvtec:/path`: one category in the layout of MVTec AD, which other sets (VisA, Real-IAD) are also exported in.

Bergmann et al., "MVTec AD: A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", CVPR 2019:
train/good/, test/good/, test/<defect type>/, ground_truth/<defect type>/<name>_mask.png. Its split is made for
learning from good images alone; telling good from defective needs both in every split.
"""

import posixpath
from collections import Counter
from dataclasses import replace

from components.data.files import open_files
from components.data.names import normal_path
from components.data.sources.listing import Listing, SourceOptions, make_listing, refuse_table_options
from components.data.sources.tree import Tree, class_images, read_tree
from components.display import listed
from components.errors import InputError, redact

_LAYOUT = "train/good/, test/good/, test/<defect type>/, ground_truth/<defect type>/<name>_mask.png"


def list_mvtec(place: str, options: SourceOptions) -> Listing:
    """List the images of train/ and test/ together, with the masks of ground_truth/, without a split.

    place: a local folder, or an address. Labels: "good" and the defect types. Metadata: original_split, train or
    test. A mask is called as its image, with or without "_mask", of any image extension.

    Raises InputError: no such folder, another layout, several categories, links that leave the folder.
    """
    refuse_table_options(f"mvtec:{place}", options, group=None, metadata=("original_split",), confidence=None)
    files = open_files(place, key="data.source", kind="mvtec:")
    tree = read_tree(files)
    _check_layout(tree, place)
    found, left_out = class_images(tree, depth=2)
    images = [(path, label) for path, label in found if _top(path) in ("train", "test")]
    empty = {"train/good", "test"} - {"train/good" if _top(path) == "train" else "test" for path, _ in images}
    if empty:
        raise InputError(
            f"data.source='mvtec:{redact(place)}' has no images in {' and '.join(sorted(empty))}"
            f"{f'; left out: {left_out.text}' if left_out.text else ''}; copy them there"
        )
    # Those with _mask last, so that one of them wins where a name has both.
    masks = sorted(
        (path for path, _ in found if _top(path) == "ground_truth"),
        key=lambda path: posixpath.splitext(path)[0].endswith("_mask"),
    )
    by_image = {_below_top(path).removesuffix("_mask"): path for path in masks}
    mask = [by_image.get(_below_top(path)) if _top(path) == "test" else None for path, _ in images]
    strange = Counter(_top(path) for path, _ in found if _top(path) not in ("train", "test", "ground_truth"))
    defects = sorted({label for _, label in images} - {"good"})
    return make_listing(
        files,
        {
            "path": [path for path, _ in images],
            "label": [label for _, label in images],
            "mask": mask,
            "meta_original_split": [_top(path) for path, _ in images],
        },
        description=(
            f"MVTec-AD layout {files.name}: good and {len(defects)} defect types, {len(images)} files, "
            f"{sum(path is not None for path in mask)} masks"
        ),
        left_out=replace(left_out, loose=left_out.loose + strange.total()),
        notes=_notes(images, mask, unused=len(masks) - len(set(mask) - {None})),
    )


def is_mvtec(tree: Tree) -> bool:
    """Whether the folders are those of one category: the good images alone to train on, and others to test."""
    return tree.folders_in("train") == ["good"] and bool(tree.folders_in("test"))


def _top(path: str) -> str:
    return path.partition("/")[0]


def _below_top(path: str) -> str:
    """Without the top folder and the extension, in one Unicode form: what an image and its mask have in common."""
    return normal_path(posixpath.splitext(path.partition("/")[2])[0])


def _check_layout(tree: Tree, place: str) -> None:
    source = f"data.source='mvtec:{redact(place)}'"
    categories = [name for name in tree.folders_in("") if "good" in tree.folders_in(f"{name}/train")]
    train, test = tree.folders_in("train"), tree.folders_in("test")
    if categories and "good" not in train:
        first = f"{redact(place).rstrip('/')}/{categories[0]}" if "::" not in place else f"…/{categories[0]}…"
        raise InputError(
            f"{source} holds {len(categories)} categories ({listed(categories, most=20)}); give one, as each "
            f"is a task of its own: data.source=mvtec:{first}"
        )
    if "good" not in train or not test:
        there = listed(tree.folders_in(""), most=20) or "no folder"
        raise InputError(
            f"{source} is not laid out as MVTec AD ({_LAYOUT}); it has: {there}. Give the folder of one category, "
            "or use folder: for class folders"
        )
    others = [name for name in train if name != "good"]
    if others:
        raise InputError(
            f"{source} has train/{others[0]} beside train/good, and MVTec AD trains on good images only; use folder: "
            "for class folders within train/ and test/ (without ground_truth/), or a table with data.mask_column"
        )


def _notes(images: list[tuple[str, str]], mask: list[str | None], *, unused: int) -> list[str]:
    counts = Counter(_top(path) for path, _ in images)
    notes = [
        f"train/ ({counts['train']:,} images) holds good images only, so train/ and test/ ({counts['test']:,} images) "
        "were pooled and are split anew."
    ]
    bare = Counter(label for (_, label), path in zip(images, mask, strict=True) if label != "good" and path is None)
    if bare:
        kinds = ", ".join(f"{label} {count}" for label, count in sorted(bare.items()))
        notes.append(f"{bare.total():,} defective images have no mask in ground_truth/ ({kinds}).")
    if unused:
        notes.append(f"{unused:,} masks in ground_truth/ belong to no image of test/.")
    return notes
