"""The exceptions that mean: the user's input has to change, and the message says how; no message shows a password."""

import re
from collections.abc import Callable


class InputError(ValueError):
    """A fault in what the user gave (configuration, images, environment).

    The message names the key, its value, the rule and the remedy. The CLI prints it without a traceback.
    """


def faults_of(check: Callable[[], object]) -> list[str]:
    """What the check refuses by an InputError, one fault a line; nothing where it passes."""
    try:
        check()
    except InputError as error:
        return str(error).splitlines()
    return []


class ModelError(InputError):
    """The files of a model are gone, or cannot be loaded."""


def redact(text: str) -> str:
    """The text without the users, passwords and signed queries of the addresses in it."""
    text = re.sub(r"://[^/\s]*@", "://…@", text)
    return re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\":]+", r"\1?…", text)
