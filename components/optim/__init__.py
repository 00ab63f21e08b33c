"""Optimizers, layer-wise rates, schedules, and the bounds that a learning-rate range test gives."""
