"""The sets of the benchmark of quality, and which of their images are the test's.

Each is a configuration and what is changed in it, as a user would give it on the command line. The test's images are
those of the configuration as it stands, for the pipeline and for the loop beside it, and for every seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from components.data.manifest import classes_of, load_manifest
from components.data.pack.reader import PACK_FILE, PACK_FOLDER

REPOSITORY = Path(__file__).resolve().parents[1]
X_SDD = REPOSITORY.parent / "shared" / "data" / "x_sdd"

_WITHOUT_GOOD = {
    "data.good_labels": [],
    "recipe.objective": "balanced_accuracy",
    "promote.gates.min_balanced_accuracy": 0.5,
}
#: Six images of each part, defects that are harder to see.
PARTS = "generated:count=1344,size=128,parts=224,defect_rate=0.4,strength=0.14"
#: Two of the eight images of each second part show its defect: an eighth of all.
SMALL = "generated:count=400,size=128,parts=50,defect_rate=0.5,shown=0.25,strength=0.33"


@dataclass(frozen=True)
class ImageSet:
    """config, changes: what `--config` and `--set` get."""

    name: str
    config: str = "demo"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def options(self, storage: Path, **more: Any) -> list[str]:  # noqa: ANN401 - whatever a key takes
        """Of a run that keeps all it makes below a folder. more: further changes, with __ for a dot."""
        changes = {**self.changes, **{name.replace("__", "."): value for name, value in more.items()}}
        changes |= {"storage.root": str(storage), "tracking.uri": f"sqlite:///{storage}.db"}
        return ["--config", self.config, *(f"--set={key}={_spelt(value)}" for key, value in changes.items())]


@dataclass(frozen=True)
class Split:
    """What the pipeline made of a set's images.

    table: the manifest's columns path, label, is_defect, split and sha256. classes: in the order of the targets. root:
    address of the images. framing: see `components/data/framing.py`. test: a manifest with the test's images alone.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    root: str
    framing: Mapping[str, Any]
    test: Path

    @property
    def has_good(self) -> bool:
        return not bool(self.table["is_defect"].isna().any())

    @property
    def tested(self) -> pd.DataFrame:
        return self.table[self.table["split"] == "test"].reset_index(drop=True)


def find_sets(names: Sequence[str], *, x_sdd: Path, changes: Mapping[str, Any]) -> list[ImageSet]:
    """By name, or from the path of a configuration or of a manifest. changes: for all of them.

    A set whose images are not there is left out with a line on standard error. Raises SystemExit: an unknown name.
    """
    found = [_find(name, x_sdd) for name in names]
    return [ImageSet(one.name, one.config, {**one.changes, **changes}) for one in found if one is not None]


def _find(name: str, x_sdd: Path) -> ImageSet | None:
    known = {
        "elpv": ImageSet("elpv"),
        "x_sdd": ImageSet("x_sdd", changes=_generic(f"folder:{x_sdd}") | _WITHOUT_GOOD),
        "parts": ImageSet("parts", changes=_generic(PARTS)),
        "small": ImageSet("small", changes=_generic(SMALL) | {"operating_point.escape_budget": 0.2}),
    }
    if name == "x_sdd" and not x_sdd.is_dir():
        print(f"x_sdd: no folder {x_sdd}; left out (give --x-sdd)", file=sys.stderr)
        return None
    if name in known:
        return known[name]
    if (REPOSITORY / "pipeline" / "configs" / f"{name}.yaml").is_file():
        return ImageSet(name, config=name)
    if not Path(name).is_file():
        raise SystemExit(
            f"--sets: {name!r} is neither a file, nor a shipped configuration, nor one of {', '.join(known)}"
        )
    if name.endswith((".yaml", ".yml")):
        return ImageSet(Path(name).stem, config=str(Path(name).resolve()))
    return ImageSet(Path(name).resolve().parent.name, changes=_of_manifest(Path(name).resolve()))


def _generic(source: str) -> dict[str, Any]:
    return {"data.source": source, "data.good_labels": ["good"]}


def _of_manifest(path: Path) -> dict[str, Any]:
    """The images of a manifest, in its groups and splits."""
    table, place = load_manifest(path), json.loads((path.parent / PACK_FOLDER / PACK_FILE).read_text(encoding="utf-8"))
    good = (
        [] if table["is_defect"].isna().any() else sorted(table.loc[~table["is_defect"].astype(bool), "label"].unique())
    )
    return {
        "data.source": f"parquet:{path}",
        "data.root": place["files"],
        "data.group_column": "group",
        "data.earlier_manifest": path,
        **({"data.good_labels": good} if good else _WITHOUT_GOOD),
    }


def make_split(images: ImageSet, place: Path) -> Split:
    """Prepare a set once, below `place`, for the split that every run then has.

    Raises SystemExit: the images are tiled, which the loop is not made for.
    """
    command = [sys.executable, "-m", "pipeline", "prepare", *images.options(place / "split"), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    (stage,) = json.loads(done.stdout.splitlines()[-1])["stages"]
    prepared = place / "split" / "prepare" / stage["fingerprint"][:16]
    manifest = load_manifest(prepared / "manifest.parquet")
    pack = json.loads((prepared / PACK_FOLDER / PACK_FILE).read_text(encoding="utf-8"))
    if pack["framing"]["tile_size"] is not None:
        raise SystemExit(f"{images.name}: data.tile_size is set; the benchmark is of whole images")
    test = place / "test.parquet"
    manifest.loc[manifest["split"] == "test", ["sha256", "split"]].drop_duplicates().to_parquet(test)
    table = manifest[["path", "label", "is_defect", "split", "sha256"]]
    return Split(table, tuple(classes_of(manifest)), pack["files"], pack["framing"], test)


def _spelt(value: Any) -> str:  # noqa: ANN401 - whatever a key takes
    """A value as `--set` reads it."""
    return (
        str(value) if isinstance(value, str | Path) else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]
    )
