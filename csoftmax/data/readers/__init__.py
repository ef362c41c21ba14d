"""Readers of files: `front` finds out what a file is, and each of the others reads one kind."""
