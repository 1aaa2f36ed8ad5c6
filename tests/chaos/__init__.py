"""A seeded storm of faults over a whole system, and a long run: python -m tests.chaos."""
