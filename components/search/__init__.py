"""Searching over recipes: the space, how it is sampled, and Ray Tune."""
