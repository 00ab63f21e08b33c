"""Figures and the one-file HTML report; the only place that knows matplotlib and jinja2."""
