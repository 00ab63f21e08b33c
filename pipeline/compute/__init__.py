"""This machine or a cluster: how trainings share it, and how its nodes get the data."""
