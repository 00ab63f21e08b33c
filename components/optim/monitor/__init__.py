"""The training monitor: what losses, gradients and weight updates show about the learning rate."""
