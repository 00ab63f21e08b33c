"""Numbers in sentences."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """1 file, 12 files, 1,234 files. plural: where it is not the noun and an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
