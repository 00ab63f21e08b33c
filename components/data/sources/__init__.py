"""Kinds of data sources: each lists labelled images without opening one."""
