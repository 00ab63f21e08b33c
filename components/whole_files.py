"""Files that are there whole or not at all, also where several processes write the same one at a time."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the block a file to write beside `path`, and rename it once the block has ended well.

    Its name is nobody else's: process ids are not, in containers that share a folder.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
