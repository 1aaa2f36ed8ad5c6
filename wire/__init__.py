"""The contract: what a message carries, how a key is made, what things are called. Pure; no I/O, no clock."""
