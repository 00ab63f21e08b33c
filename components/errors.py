"""The exception that means: the user's input has to change, and the message says how."""


class InputError(ValueError):
    """A fault in what the user gave (configuration, images, environment).

    The message names the key, its value, the rule and the remedy. The CLI prints it without a traceback.
    """


class ModelError(InputError):
    """The files of a model are gone, or cannot be loaded."""
