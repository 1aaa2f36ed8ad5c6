"""One page for a whole fleet."""
