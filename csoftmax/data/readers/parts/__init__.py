"""Readers of shards: one module a format, which opens files as parts whose rows are read by number.

A module has the function `open_parts`. What it gives opens its file by itself and can be pickled.
"""
