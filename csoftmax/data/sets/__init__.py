"""Data sets that are found or fetched by name: Fashion-MNIST, its sample, and the cache."""
