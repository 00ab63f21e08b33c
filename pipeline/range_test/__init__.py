"""The parts of the stage lr_range_test: the probe of the backbones and the ramps."""
