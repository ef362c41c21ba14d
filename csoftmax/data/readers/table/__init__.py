"""From a text table to features and labels: `lines`, `guesses`, `layout`, `cells`, `rows`.

`options` says how the user wants a table read, whatever its format.
"""
