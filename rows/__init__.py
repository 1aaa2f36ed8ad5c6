"""Rows of files: read one after the other, and written in the form that a name asks for."""
