"""pyarrow, where it is installed: an extra, since nobody else needs its 150 MB."""

from typing import Any

try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet
except ImportError as error:
    raise ValueError("Parquet needs pyarrow: pip install 'recollect[parquet]'") from error

pa: Any = pyarrow
