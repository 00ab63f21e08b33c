"""Reading a pack: rows by number, from any number of processes, whichever way the pixels are kept."""

import bisect
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow.parquet as pq

from components.data.decode import decode_image
from components.data.files import Files
from components.data.framing import Framing, iter_frames
from components.data.pack.shards import ENCODED, PIXELS, TABLE, THUMBNAIL_SIDE, THUMBNAILS, decode_stored

PACK_FOLDER = "pack"
PACK_FILE = "pack.json"
PATHS_FILE = "paths.parquet"


class Pack:
    """The framed images of a data set, by pack_index.

    pack[i]: (S, S, 3) uint8. pack[indices]: (B, S, S, 3) uint8, a fresh array. Pickles as its folder: each process maps
    the shards for itself, and all share their pages.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        record = json.loads((directory / PACK_FILE).read_text(encoding="utf-8"))
        self.kind = record["kind"]
        self.framing = Framing.from_dict(record["framing"])
        self._files = Files(record["files"])
        self._names = [shard["name"] for shard in record["shards"]]
        self._rows: list[int] = [shard["rows"] for shard in record["shards"]]
        self._ends = list(accumulate(self._rows))
        self._opened: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def size(self) -> int:
        return self.framing.size

    @overload
    def __getitem__(self, index: int | np.integer) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: np.ndarray | Sequence[int]) -> np.ndarray: ...
    def __getitem__(self, index: int | np.integer | np.ndarray | Sequence[int]) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self._read(int(index))
        pixels = np.empty((len(index), self.size, self.size, 3), np.uint8)
        for position, number in enumerate(index):
            pixels[position] = self._read(int(number))
        return pixels

    def thumbnails(self, indices: np.ndarray) -> np.ndarray:
        """(n, 64, 64) uint8, grey, of the rows with these numbers.

        The files are opened for this call alone, so that a pass over all of them does not keep their pages.
        """
        indices = np.asarray(indices, dtype=np.int64)
        found = np.empty((len(indices), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
        shards = np.searchsorted(self._ends, indices, side="right")
        for shard in np.unique(shards):
            where = np.flatnonzero(shards == shard)
            shape = (self._rows[shard], THUMBNAIL_SIDE, THUMBNAIL_SIDE)
            # A string: of a path numpy looks up every folder on the way.
            mapped = np.memmap(str(self._file(shard, THUMBNAILS)), np.uint8, "r", shape=shape)
            found[where] = mapped[indices[where] - self._first(shard)]
        return found

    def __reduce__(self) -> tuple[type["Pack"], tuple[Path]]:
        return Pack, (self.directory,)

    def _read(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of a pack with {len(self)}")
        shard = bisect.bisect_right(self._ends, index)
        row = index - self._first(shard)
        if self.kind == "decoded":
            return np.asarray(self._pixels(shard)[row])
        if self.kind == "encoded":
            start, length, data = self._encoded(shard)
            return decode_stored(data[start[row] : start[row] + length[row]].tobytes())
        return self._from_source(index)

    def _first(self, shard: int) -> int:
        return self._ends[shard] - self._rows[shard]

    def _file(self, shard: int, suffix: str) -> Path:
        return self.directory / f"{self._names[shard]}{suffix}"

    def _pixels(self, shard: int) -> np.ndarray:
        if shard not in self._opened:
            shape = (self._rows[shard], self.size, self.size, 3)
            self._opened[shard] = np.memmap(self._file(shard, PIXELS), np.uint8, "r", shape=shape)
        pixels: np.ndarray = self._opened[shard]
        return pixels

    def _encoded(self, shard: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if shard not in self._opened:
            table = pq.read_table(self._file(shard, TABLE), columns=["row", "start", "length"]).to_pandas()
            table = table.dropna().sort_values("row")
            data = np.memmap(self._file(shard, ENCODED), np.uint8, "r")
            self._opened[shard] = (table["start"].to_numpy(np.int64), table["length"].to_numpy(np.int64), data)
        opened: tuple[np.ndarray, np.ndarray, np.ndarray] = self._opened[shard]
        return opened

    def _from_source(self, index: int) -> np.ndarray:
        """Decode the original again. Raises OSError or DecodeError when it is not there any more."""
        if -1 not in self._opened:
            table = pq.read_table(self.directory / PATHS_FILE).to_pandas()
            cells = zip(table["path"], table["box"], strict=True)
            self._opened[-1] = dict(zip(table["pack_index"], cells, strict=True))
        path, box = self._opened[-1][index]
        decoded = decode_image(self._files.read(path), significant_bits=self.framing.significant_bits)
        frames = iter_frames(decoded.image, self.framing)
        return next(framed for found, framed in frames if box in ("", ",".join(map(str, found))))


def open_pack(prepared: Path) -> Pack:
    return Pack(prepared / PACK_FOLDER)
