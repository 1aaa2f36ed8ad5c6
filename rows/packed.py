"""What goes wrong while a packed file is read."""

import gzip
import zlib

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
"""It ends early, is damaged, or is not packed at all."""
