"""rosbag2 recordings (sqlite3 and mcap), opened as what they may be: files from a stranger.

What a small file unpacks to is bounded, and whatever a damaged one provokes is said in one line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alula.errors import AlulaError

MAX_CHUNK_BYTES = 256 * 1024**2
"""Largest unpacked chunk [bytes]."""
MAX_TOPICS = 1000


def open_bag(path: str | Path) -> Any:
    """An open `rosbags.rosbag2.Reader` of a bag's folder, or of a single .mcap or .db3 file; the caller closes it.

    Raises:
        AlulaError: no bag, broken, its messages are compressed one by one, or it has too many topics.
    """
    from rosbags.rosbag2 import Reader

    _bound_unpacking()
    with bag_errors(path):
        reader = Reader(path)
        reader.open()
    if reader.compression_mode:
        reader.close()
        raise AlulaError(
            f"bag {path}: messages are compressed one by one; allowed: mcap with compressed chunks"
        )
    if len(reader.connections) > MAX_TOPICS:
        reader.close()
        raise AlulaError(f"bag {path}: more than {MAX_TOPICS} topics")
    return reader


@contextmanager
def bag_errors(path: str | Path) -> Iterator[None]:
    """Around what reads on in an open bag.

    Raises:
        AlulaError: for anything that the library let through.
    """
    try:
        yield
    except AlulaError:
        raise
    except Exception as e:
        # struct, lookup, type, sqlite errors, ...
        reason = " ".join((str(e) or type(e).__name__).split())[:160]
        raise AlulaError(
            f"bag {path}: broken or cut short ({reason}); allowed: an intact bag, or what "
            "`ros2 bag reindex` or `mcap recover` saves of it"
        ) from None


def _bound_unpacking() -> None:
    """Let rosbags unpack no more of a chunk than the chunk says: a small file could else fill the memory."""
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.rosbag2 import storage_mcap

    def allowed(size: int) -> int:
        if size > MAX_CHUNK_BYTES:
            raise AlulaError(f"bag: a chunk of {size} bytes; allowed: up to {MAX_CHUNK_BYTES}")
        return max(size, 1)

    def zstd(data: bytes, size: int) -> bytes:
        unpacker = storage_mcap.zstd.ZstdDecompressor()  # type: ignore[attr-defined]
        return unpacker.decompress(data, max_length=allowed(size))

    def lz4(data: bytes, size: int) -> bytes:
        return LZ4FrameDecompressor().decompress(data, max_length=allowed(size))

    storage_mcap.DECOMPRESSORS |= {"zstd": zstd, "lz4": lz4}  # type: ignore[operator]
