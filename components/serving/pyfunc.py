"""The served model: image bytes in, label, defect score and decision out.

MLflow copies this file into every exported model ("models from code") and runs the copy, where this project is not
installed: it imports nothing of it. Everything else is read from the bundle (see `bundle.py`).

Input: a frame with a column `image`, or any one-column frame, a series, array or list of items, a list of records with
the key `image`, a dict with that key (of a list or of one item), or one item. An item is image bytes or base64 text,
with or without a `data:` prefix. A path is read only where the model was loaded with `model_config={"allow_paths":
True}`: a server must not read files for its clients.

Output: one row per item, in order: `label` (the likeliest class), `defect_score` (calibrated, in [0, 1]), `decision`
(accept, reject, or review where the item gives no image that can be judged), `p_<class>`, `error`. Without good classes
there is neither score nor decision. A model that judges tiles answers for an image as for its worst tile, and names it:
`tile`, as "left,top,right,bottom". What a row lacks is None, never NaN, which the scoring server would write as broken
JSON.
"""

import base64
import binascii
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from safetensors.torch import load_file

FORMAT_VERSION = 6
DEFAULTS = {"device": "auto", "batch_size": 32, "allow_paths": False}
DEVICES = ("auto", "cpu", "cuda")


class ItemError(ValueError):
    """One item gives no answer; the message goes into its row."""


@dataclass(frozen=True)
class Settings:
    """How the model was loaded: `model_config`, checked."""

    device: torch.device
    batch_size: int
    allow_paths: bool


@dataclass(frozen=True)
class Frame:
    """One square of an image. item: position of its image; pixels: (S, S, 3) uint8; tile: its box."""

    item: int
    tile: str
    pixels: np.ndarray


class InspectionModel(PythonModel):
    """Classifies images and decides: accept, reject or review."""

    def load_context(self, context: PythonModelContext) -> None:
        """Build the members from the bundle, on the device that the settings name."""
        bundle = Path(context.artifacts["bundle"])
        self.settings = read_settings(context.model_config)
        self.card = read_card(bundle / "model.json")
        self.decode, self.framing, self.forward, self.decision = (
            load_source(bundle / f"{name}.py") for name in ("decode", "framing", "forward", "decision")
        )
        self.frame = self.framing.Framing.from_dict(self.card["framing"])
        self.rule = self.decision.DecisionRule.from_card(self.card)
        weights = load_file(bundle / "weights.safetensors", device="cpu")
        self.ensemble = self.forward.Ensemble.from_card(self.card, weights, self.settings.device)

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """One row per item, in order and with the index of the input; see the head of this file.

        model_input: any container of the head of this file; MLflow warns of an annotation that says so. params: none
        are known. They come from the client, so nothing that opens a door may hang on them.
        """
        items, index = list_items(model_input)
        errors: dict[int, str] = {}
        frames = self._frames(items, errors)
        owners, tiles, logits = [], [], [np.empty((0, len(self.card["classes"])))]
        # Batches of squares, not of images: the tiles of one large image may be thousands.
        while batch := list(islice(frames, self.settings.batch_size)):
            owners += [frame.item for frame in batch]
            tiles += [frame.tile for frame in batch]
            logits.append(self._logits([frame.pixels for frame in batch]))
        return self._answers(np.array(owners, dtype=int), tiles, np.concatenate(logits), errors, index)

    def _frames(self, items: list[object], errors: dict[int, str]) -> Iterator[Frame]:
        """The squares of all items; for an item that gives none, the reason goes into `errors`."""
        for number, item in enumerate(items):
            try:
                data = read_item(item, allow_paths=self.settings.allow_paths)
                decoded = self.decode.decode_image(data, significant_bits=self.frame.significant_bits)
                for box, pixels in self.framing.iter_frames(decoded.image, self.frame):
                    yield Frame(number, ",".join(map(str, box)), pixels)
            except (ItemError, self.decode.DecodeError, self.framing.FramingError) as error:
                errors[number] = str(error) or type(error).__name__

    def _logits(self, images: list[np.ndarray]) -> np.ndarray:
        """images: each (S, S, 3) uint8. Returns (N, K) float32."""
        pixels = torch.from_numpy(np.stack(images)).to(self.settings.device).permute(0, 3, 1, 2)
        return np.asarray(self.ensemble.logits(pixels).cpu())

    def _answers(
        self, owners: np.ndarray, tiles: list[str], logits: np.ndarray, errors: dict[int, str], index: pd.Index
    ) -> pd.DataFrame:
        """The output, with a row for each item; what a row lacks is None.

        owners: (N,) the item of each square. tiles: (N,) its box. errors: why an item gave no square.
        """
        tiled, classes = self.frame.tile_size is not None, self.card["classes"]
        decided = self.rule.decide(logits)
        worst = self.decision.worst_rows(owners, decided.log_odds, decided.verdicts)
        row_of = dict(zip(owners[worst].tolist(), worst.tolist(), strict=True))
        rows = [None if item in errors else row_of[item] for item in range(len(index))]

        def column(values: np.ndarray) -> list[Any]:
            """Of each item the value of its row; None for NaN, too."""
            plain = values.tolist()
            return [None if row is None or pd.isna(plain[row]) else plain[row] for row in rows]

        unknown = ~np.isfinite(logits).all(axis=1)
        labels = np.array(classes, dtype=object)[decided.probabilities.argmax(axis=1)]
        faults = np.full(len(logits), None, dtype=object)
        labels[unknown] = None
        faults[unknown] = f"the model's output for this {'tile' if tiled else 'image'} is not finite"
        columns = {
            "label": column(labels),
            "defect_score": column(self.decision.sigmoid(decided.log_odds)),
            "decision": column(decided.verdicts),
            **{f"p_{name}": column(decided.probabilities[:, k]) for k, name in enumerate(classes)},
            **({"tile": column(np.array(tiles, dtype=object))} if tiled else {}),
            "error": column(faults),
        }
        for item, error in errors.items():
            columns["decision"][item], columns["error"][item] = self.decision.REVIEW, error
        # Numbers are float64 in a column without gaps, and objects with None in one with gaps.
        texts = ("label", "decision", "tile", "error")
        kinds = {name: object if name in texts or None in values else float for name, values in columns.items()}
        return pd.DataFrame({name: pd.Series(columns[name], dtype=kinds[name], index=index) for name in columns})


def list_items(model_input: object) -> tuple[list[object], pd.Index]:
    """The items, and the index that the output will carry.

    Raises ValueError: a frame whose image column cannot be told, or an array of more than one column.
    """
    if isinstance(model_input, dict):
        if "image" not in model_input:
            raise ValueError(f"the input has the keys {sorted(map(str, model_input))}; 'image' is needed")
        model_input = model_input["image"]
    if isinstance(model_input, pd.DataFrame):
        columns = list(model_input.columns)
        if "image" not in columns and len(columns) != 1:
            raise ValueError(f"the input has the columns {columns}; 'image' is needed, or one column alone")
        if columns.count("image") > 1:
            raise ValueError(f"the input has the columns {columns}; one 'image' is needed")
        model_input = model_input["image" if "image" in columns else columns[0]]
    if isinstance(model_input, pd.Series):
        return [single(item) for item in model_input.tolist()], model_input.index
    if isinstance(model_input, np.ndarray):
        if model_input.ndim > 1 and model_input.shape != (len(model_input), 1):
            raise ValueError(f"the input has the shape {model_input.shape}; (N,) or (N, 1) is needed")
        items = array_items(model_input.ravel())
    else:
        items = list(model_input) if isinstance(model_input, list | tuple) else [model_input]
    return [single(item) for item in items], pd.RangeIndex(len(items))


def array_items(array: np.ndarray) -> list[object]:
    """(N,) any. Of numpy's own bytes the whole cell: what it takes for padding may be the end of an image."""
    if array.dtype.kind == "S":
        array = array.view(np.dtype((np.void, array.itemsize)))
        return [cell.tobytes() for cell in array]
    return list(array.tolist())


def single(item: object) -> object:
    """The item of a record with the key `image`, or in an array without axes, which a scoring server may send."""
    if isinstance(item, dict) and "image" in item:
        item = item["image"]
    return item.item() if isinstance(item, np.ndarray) and item.ndim == 0 else item


def read_item(item: object, *, allow_paths: bool) -> bytes:
    """The bytes of one image file.

    Raises ItemError: the item is no bytes, base64 or (where allowed) path.
    """
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, Path):
        item = str(item)
    if not isinstance(item, str):
        missing = item is None or item is pd.NA or (isinstance(item, float) and np.isnan(item))
        found = "no image is given" if missing else f"what is given is of the type {type(item).__name__}"
        raise ItemError(f"{found}; give image bytes or base64 text")
    # Where paths are not allowed, not even their existence is looked up: the answer would tell a client.
    if allow_paths and is_file(item):
        try:
            return Path(item).read_bytes()
        except OSError as error:
            raise ItemError(f"the file cannot be read: {error}") from error
    return decode_base64(item, allow_paths=allow_paths)


def is_file(text: str) -> bool:
    """Whether the text names a file; a base64 text may be too long, or hold what no path can."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def decode_base64(text: str, *, allow_paths: bool) -> bytes:
    """The bytes behind a base64 text, with or without line breaks, and `data:…;base64,` before it."""
    head, comma, tail = text.partition(",")
    payload = tail if comma and head.startswith("data:") and head.endswith(";base64") else text
    try:
        data = base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        where = "no file either" if allow_paths else "a path is read only with model_config allow_paths"
        raise ItemError(f"the text {text[:40]!r} is not base64 ({error}), and {where}") from error
    if not data:
        raise ItemError("the text is empty; give image bytes or base64 text")
    return data


def read_settings(model_config: dict[str, Any] | None) -> Settings:
    """`model_config` over the defaults, checked.

    Raises ValueError: an unknown key or a value out of its range; all faults in one message.
    """
    config = {**DEFAULTS, **(model_config or {})}
    device, batch_size, allow_paths = (config[key] for key in DEFAULTS)
    faults = [f"unknown key {key!r}" for key in config if key not in DEFAULTS]
    if device not in DEVICES:
        faults.append(f"device={device!r} is none of {', '.join(DEVICES)}")
    elif device == "cuda" and not torch.cuda.is_available():
        faults.append("device='cuda', and no GPU is available: use 'auto' or 'cpu'")
    if type(batch_size) is not int or batch_size < 1:
        faults.append(f"batch_size={batch_size!r} is not a whole number from 1")
    if not isinstance(allow_paths, bool):
        faults.append(f"allow_paths={allow_paths!r} is neither true nor false")
    if faults:
        raise ValueError(f"model_config: {'; '.join(faults)}; known keys: {', '.join(DEFAULTS)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Settings(torch.device(device), batch_size, allow_paths)


def read_card(path: Path) -> dict[str, Any]:
    """What `model.json` says; the exporter has checked its fields.

    Raises ValueError: written in a format that this file does not read.
    """
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if card.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version={card.get('format_version')!r}, and this file reads {FORMAT_VERSION}")
    return card


def load_source(path: Path) -> ModuleType:
    """A source file of the bundle, under a name by its content: two models may carry two versions of it."""
    name = f"bundled_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it runs
    spec.loader.exec_module(module)
    return module


set_model(InspectionModel())
