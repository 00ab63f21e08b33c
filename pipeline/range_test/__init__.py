"""The parts of lr_range_test: which backbones are worth a test, the ramps, what is said of them."""
