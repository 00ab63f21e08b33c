"""What runs, and in what order: configuration, stages, runner and command line."""
