"""Running a training: the epoch engine, the learning-rate ramp, checkpoints."""
