"""How fast data are prepared and fed, over the plainest way to do the same work, and how both grow.

    python benchmarks/data.py --json

Three questions, each answered by a ratio from one run in which the two sides take turns:

- the file pass (decode, hash, measure, pack) over a bare decode-and-resize loop on the same files and cores;
- feeding batches from the pack over a folder loader that decodes each time, with the same augmentation; and the share
  of a training step that feeding takes;
- preparing ten times as many images: time and unique memory (of all processes), and once more with 1 % new files.

The images are generated, one megapixel each for the first two; `--elpv` and `--folder PATH` (class folders) add real
ones. The third is the slow one: `--scale 10000 100000` takes a quarter of an hour on two cores; `--scale` alone skips
it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import data_pass

from pipeline.compute.resources import cpu_count


def main() -> None:
    # Not above: the processes that decode import this file again, and torch would take most of their time.
    import data_feeding
    import data_scale

    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="escapement-bench-") as name:
        place = Path(name)
        sources = {"megapixel": f"generated:count={arguments.images},size={arguments.size},format=jpeg"}
        sources |= {"elpv": "elpv"} if arguments.elpv else {}
        sources |= {"folder": f"folder:{arguments.folder}"} if arguments.folder else {}
        result: dict[str, Any] = {"cores": cpu_count(), "settings": _settings(arguments), "pass": {}, "feeding": {}}
        for source_name, source in sources.items():
            listing = data_pass.list_files(source, place)
            result["pass"][source_name] = data_pass.measure(
                listing, place, side=arguments.side, cores=cpu_count(), repeats=arguments.repeats
            )
            result["feeding"][source_name] = data_feeding.measure(
                listing,
                place,
                side=arguments.side,
                batch_size=arguments.batch_size,
                batches=arguments.batches,
                repeats=arguments.repeats,
            )
        result["training_step"] = data_feeding.measure_step(
            backbone=arguments.backbone, side=arguments.side, batch_size=arguments.batch_size, repeats=arguments.repeats
        )
        if arguments.scale:
            result["scale"] = data_scale.measure(arguments.scale, side=arguments.scale_side, place=place)
    if arguments.json:
        print(json.dumps(result))
    else:
        _show(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="generated images, one megapixel each")
    parser.add_argument("--size", type=int, default=1024, help="side of the generated images, in pixels")
    parser.add_argument("--side", type=int, default=128, help="side of the images that a model sees, in pixels")
    parser.add_argument("--elpv", action="store_true", help="also the real images of the demo extra")
    parser.add_argument("--folder", help="also the images of this folder of class folders")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=6, help="batches that each loader gives at a turn")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=int, nargs="*", default=[1000, 10000], help="numbers of images to prepare")
    parser.add_argument("--scale-side", type=int, default=64, help="side of those images, in pixels")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(arguments).items() if key not in ("json", "folder")}


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        "images", "pass: ours / bare", "ours, images/s", "with 1 % new", "feeding: ours / folder", "ours, images/s"
    )
    for name, found in result["pass"].items():
        feeding = result["feeding"][name]
        table.add_row(
            name,
            f"{found['ratio_of_rates']['median']:.2f}",
            f"{found['images_per_second']['ours']:.0f}",
            f"{found['again_with_1_percent_new']:.1%} of the first pass",
            f"{feeding['ratio_of_rates']['median']:.1f}",
            f"{feeding['images_per_second']['pack']:.0f}",
        )
    console.print(table)
    console.print(f"share of a training step that feeding takes: {result['training_step']['share']['median']:.1%}")
    for run in result.get("scale", {}).get("runs", []):
        console.print(
            f"{run['images']:,} images: {run['seconds']:.1f} s, {run['peak_unique_mb']:.0f} MB at most; "
            f"with 1 % new files {run['again_seconds']:.1f} s"
        )


if __name__ == "__main__":
    main()
