"""Readers of files: one module a format, and `front`, which finds out what a file is.

A new format is a module that ends with its `Reader`, and its entry in `front.READERS`. `table` has
the parts of the reader of text tables, `csv`.
"""
