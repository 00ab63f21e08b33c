"""`folder:/path`: one sub-folder per class, or train/, val/, calibration/, test/ folders of class folders."""

from components.data.files import open_files
from components.data.fixed_splits import SPLIT_NAMES
from components.data.image_files import is_image
from components.data.names import normal_form
from components.data.sources.listing import Listing, SourceOptions, make_listing, refuse_table_options
from components.data.sources.tree import Tree, class_images, read_tree
from components.errors import InputError, redact


def list_folder(place: str, options: SourceOptions) -> Listing:
    """List the images below each class folder, at any depth. place: a local folder, or an address.

    What is no image (`image_files.py`) is left out, and counted. Links to files are followed inside the folder only.

    Raises InputError: no such folder, no class folders, split folders beside others with images, MVTec-AD's layout,
    links that leave the folder.
    """
    refuse_table_options(f"folder:{place}", options, group=None, metadata=(), confidence=None)
    files = open_files(place, key="data.source", kind="folder:")
    tree = read_tree(files)
    source = f"data.source='folder:{redact(place)}'"
    _refuse_mvtec(tree, source, place)
    is_split = has_split_folders(tree, source)
    images, left_out = class_images(tree, depth=2 if is_split else 1)
    if not images:
        raise InputError(
            f"{source} has no images in class folders{f'; left out: {left_out.text}' if left_out.text else ''}; "
            "put the images of each class into a sub-folder named after it"
        )
    count = len({normal_form(label) for _, label in images})
    layout = "class folders, split by folder," if is_split else "class folders"
    return make_listing(
        files,
        {
            "path": [path for path, _ in images],
            "label": [label for _, label in images],
            "split": [_split_name(path.partition("/")[0]) for path, _ in images] if is_split else None,
        },
        description=f"folder of {layout} {files.name}: {count} classes, {len(images)} files",
        left_out=left_out,
    )


def has_split_folders(tree: Tree, source: str) -> bool:
    """A folder named train means that the top level is the splits. source: for errors.

    Raises InputError when others hold images, too.
    """
    if not any(_split_name(folder) == "train" for folder in tree.folders_in("")):
        return False
    filled = {path.partition("/")[0] for path in tree.paths if "/" in path and is_image(path)}
    others = sorted(folder for folder in filled if _split_name(folder) not in SPLIT_NAMES)
    if others:
        raise InputError(
            f"{source} has a folder train beside {', '.join(others)}: split folders and "
            "others cannot be mixed; move the others away, or list the images in a table (csv:…)"
        )
    return True


def _split_name(folder: str) -> str:
    return normal_form(folder).lower()


def _refuse_mvtec(tree: Tree, source: str, place: str) -> None:
    """Raise InputError for MVTec-AD's layout, whose masks and categories would be taken for classes."""
    for folder in ("", *tree.folders_in("")):
        inner = f"{folder}/" if folder else ""
        if "ground_truth" in tree.folders_in(folder) and tree.folders_in(f"{inner}train") == ["good"]:
            root = f"{redact(place).rstrip('/')}/{folder}" if folder and "::" not in place else redact(place)
            raise InputError(
                f"{source} has a folder train beside ground_truth{f', in {folder}' if folder else ''}, with good "
                f"images only: this is MVTec-AD's layout; write data.source=mvtec:{root}"
            )
