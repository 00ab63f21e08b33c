"""`elpv`: 2,624 electroluminescence images of solar cells, from the package elpv-dataset (CC BY-NC-SA 4.0).

Deitsch et al., "Automatic classification of defective photovoltaic module cells in electroluminescence
images", Solar Energy 185 (2019). Each cell has a defect probability of 0, 1/3, 2/3 or 1 and a type, mono or
poly. The set names no modules, so cells of one module cannot be kept together.
"""

import importlib.util
from pathlib import Path

import pandas as pd

from components.data.files import Files
from components.data.sources.listing import Listing, SourceOptions, make_listing, refuse_table_options
from components.errors import InputError

_PACKAGE = "elpv_dataset"


def list_elpv(place: str, options: SourceOptions) -> Listing:
    """List the package's images as "defective" and "functional".

    Defective: a defect probability p of at least `defect_threshold`, both rounded to two decimals, so that
    0.67 takes the 2/3 in. The column confidence is p for a defective cell, else 1 - p, in exact thirds. Raises
    InputError: not installed.
    """
    if place:
        raise InputError(f"data.source='elpv:{place}': elpv takes no place; write elpv")
    refuse_table_options("elpv", options, group=None, metadata=("probability", "type"), confidence="confidence")
    threshold = options.defect_threshold
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders or not Path(folders[0], "data", "labels.csv").is_file():
        raise InputError("data.source='elpv' needs the package elpv-dataset; install it with: pip install -e '.[demo]'")
    root = Path(folders[0], "data").resolve()
    table = pd.read_csv(root / "labels.csv", sep=r"\s+", names=["path", "probability", "type"])
    defective = table["probability"].round(2) >= round(threshold, 2)
    thirds = (3 * table["probability"]).round() / 3
    return make_listing(
        Files(str(root)),
        {
            "path": table["path"].tolist(),
            "label": ["defective" if flag else "functional" for flag in defective],
            "meta_probability": [f"{value:.2f}" for value in table["probability"]],
            "meta_type": table["type"].tolist(),
        },
        confidences=None if options.confidence_column is None else thirds.where(defective, 1 - thirds).tolist(),
        description=(
            f"elpv-dataset: {len(table)} electroluminescence images of solar cells, defective at a defect "
            f"probability of {threshold:g} or more; no module ids, so not grouped by module"
        ),
    )
