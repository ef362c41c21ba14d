"""The program of Dive into Deep Learning, chapter 3: one module an edition."""
