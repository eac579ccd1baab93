"""A zip of a directory, made while it is sent: no temporary file, and the same bytes each time."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

CHUNK = 256 * 1024
# The earliest time a zip can hold; file times of the server are nobody's business.
EPOCH = (1980, 1, 1, 0, 0, 0)
MODE_644 = 0o100644 << 16


class Outlet(io.RawIOBase):
    """Takes what the zip writer writes and hands it on; it cannot seek, so sizes follow their data."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def writable(self) -> bool:
        """Writing is all it does."""
        return True

    def write(self, data: object) -> int:
        """Keep `data` until `take`."""
        piece = bytes(data)  # type: ignore[call-overload]
        self.buffer += piece
        return len(piece)

    def take(self) -> bytes:
        """What has been written since the last call."""
        piece = bytes(self.buffer)
        self.buffer.clear()
        return piece


def zip_stream(files: list[tuple[str, Path]]) -> Iterator[bytes]:
    """The zip's bytes, piece by piece.

    files: names inside the zip, with the paths to read. Tensors do not compress, so nothing is compressed.
    """
    outlet = Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for name, path in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = MODE_644
            large = path.stat().st_size >= zipfile.ZIP64_LIMIT
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=large) as target:
                while piece := source.read(CHUNK):
                    target.write(piece)
                    yield outlet.take()
    yield outlet.take()
