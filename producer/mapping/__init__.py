"""A reply for every row of a file, in a file."""
