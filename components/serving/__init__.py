"""The model that leaves the house: a self-contained folder, and the code that serves it."""
