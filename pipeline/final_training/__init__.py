"""A training at full length: a generator of what is to be saved, and who keeps it, here or for a worker."""
