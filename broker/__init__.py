"""How messages move: one interface, several brokers."""
