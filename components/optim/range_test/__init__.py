"""What the curves of a learning-rate range test say: bounds, the suggestion, and the reasons to abstain."""
