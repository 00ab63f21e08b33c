"""The larger sections of the configuration, a file per concern; `pipeline/config.py` has the whole."""
