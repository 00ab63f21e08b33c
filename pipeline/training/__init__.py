"""The one way to train: from the configuration to a training job, its placement, its checkpoints."""
