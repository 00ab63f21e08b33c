"""Backbones, where their weights come from, and the loss they are trained with."""
