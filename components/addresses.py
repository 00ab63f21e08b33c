"""Addresses as they may be shown: what ends in a run, a log or an error must not hold a password."""

import re


def redact(text: str) -> str:
    """The text without the users, passwords and signed queries of the addresses in it."""
    text = re.sub(r"://[^/\s]*@", "://…@", text)
    return re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\":]+", r"\1?…", text)
