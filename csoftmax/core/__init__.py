"""What every room stands on: checks of arguments, the CPUs, files, names."""
