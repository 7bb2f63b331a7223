"""CSV and parquet logs: one table, one time column."""

import io

import numpy as np

from alula.errors import AlulaError

MAX_COLUMNS = 1000


def read_csv(data: bytes, where: str, *, header: bool = True) -> dict[str, np.ndarray]:
    """Numeric columns of a comma-separated table with one header line; without one they are named 1, 2, ...

    Empty cells become NaN; a column that holds text is left out.

    Raises:
        AlulaError: not text, no header, a row with too few or too many cells, no data rows.
    """
    import pyarrow
    from pyarrow import csv

    head = data[:65536].split(b"\n", 1)[0].decode("utf-8", errors="replace").strip()
    if head.count(",") + 1 > MAX_COLUMNS:
        raise AlulaError(f"log {where}: more than {MAX_COLUMNS} columns")
    names = None if header else [str(k + 1) for k in range(head.count(",") + 1)]
    options = csv.ReadOptions(use_threads=False, block_size=1 << 24, column_names=names)
    try:
        table = csv.read_csv(io.BytesIO(data), read_options=options)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as e:
        raise AlulaError(f"log {where}: not a readable CSV table: {_first_line(e)}") from None
    return _numeric(table, where)


def read_parquet(data: bytes, where: str, max_bytes: int) -> dict[str, np.ndarray]:
    """Numeric columns of a parquet file.

    Raises:
        AlulaError: truncated or corrupt file, no rows, larger than max_bytes when unpacked.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        n_columns = len(file.schema_arrow.names)
        if n_columns > MAX_COLUMNS or file.metadata.num_rows * n_columns * 8 > max_bytes:
            raise AlulaError(
                f"log {where}: {file.metadata.num_rows} rows of {n_columns} columns; "
                f"allowed: up to {MAX_COLUMNS} columns and {max_bytes} bytes"
            )
        table = file.read(use_threads=False)
    except AlulaError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as e:
        raise AlulaError(f"log {where}: not a readable parquet file: {_first_line(e)}") from None
    return _numeric(table, where)


def _numeric(table, where: str) -> dict[str, np.ndarray]:
    import pyarrow

    if table.num_rows == 0:
        raise AlulaError(f"log {where}: no data rows; allowed: at least two")
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if (
            pyarrow.types.is_floating(kind)
            or pyarrow.types.is_integer(kind)
            or pyarrow.types.is_boolean(kind)
        ):
            values = column.cast(pyarrow.float64()).to_numpy()
        elif pyarrow.types.is_null(kind):
            values = np.full(table.num_rows, np.nan)
        else:
            continue
        if name not in columns:
            columns[name] = np.asarray(values, dtype=np.float64)
    return columns


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
