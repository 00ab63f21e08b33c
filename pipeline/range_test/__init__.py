"""The parts of the stage lr_range_test: the ramps."""
