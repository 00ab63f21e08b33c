"""The learning-rate range test's analysis: from the curves of several seeds to a rate and the bounds of the search."""
