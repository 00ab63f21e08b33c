"""The reports of the stages, over `components.report`."""
