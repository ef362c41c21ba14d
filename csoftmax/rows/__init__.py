"""What X can be: how its rows are stored, cut into blocks, and taken by number."""
