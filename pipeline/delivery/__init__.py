"""From trained members to a model that leaves: the decision on scores of images that no member had seen, the export."""
