"""The parts of search: running the trials, a trial in a worker, its MLflow run, the display, the results."""
