"""The parts of prepare: from the source to a pack, the audit of the data, what was found."""
