"""The parts of confirm: the winner of a search against the defaults."""
