"""The parts of the stage embed: which images, their features, the classifier on them, the ranking, the hints."""
