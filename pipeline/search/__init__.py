"""The search stage's parts: the space, a trial in a worker, its MLflow run, what is shown and reported."""
