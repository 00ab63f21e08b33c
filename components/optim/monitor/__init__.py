"""The training monitor's rules: what loss, gradients and weights say of the learning rate."""
