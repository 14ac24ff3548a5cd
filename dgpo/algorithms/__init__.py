"""One published algorithm a file, each with the same signature."""
