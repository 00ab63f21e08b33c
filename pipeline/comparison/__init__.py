"""The parts of compare_lr: methods at their own rates, their trainings, runs and tables."""
