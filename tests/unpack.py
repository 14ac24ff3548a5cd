"""Large recorded files are kept compressed; links in tests/golden lead to where they lie unpacked, byte for byte."""

import lzma
import os
from pathlib import Path

TESTS = Path(__file__).parent


def unpack(packed: Path = TESTS / "golden" / "packed", into: Path = TESTS / "unpacked") -> None:
    """Unpack every `.xz` in `packed` that has no file in `into`, or an older one."""
    for source in packed.rglob("*.xz"):
        target = into / source.relative_to(packed).with_suffix("")
        if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f"{target.name}.{os.getpid()}")
        half.write_bytes(lzma.decompress(source.read_bytes()))
        os.replace(half, target)
