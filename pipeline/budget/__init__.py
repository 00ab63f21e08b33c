"""A time for the whole run: what fits into it, by the pace that was measured."""
