"""The same few pictures stored in every way that is read: a folder, a list, a table, a tar."""

import csv
import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def draw(count: int) -> list[bytes]:
    """PNG files of noise, each of another size."""
    random = np.random.default_rng(7)
    return [_png(random.integers(0, 256, (5 + place % 3, 8 + place, 3), dtype=np.uint8)) for place in range(count)]


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def write_folder(folder: Path, images: Sequence[bytes], prompts: Sequence[str]) -> Path:
    """Image files with a metadata.csv."""
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file_name", "prompt"))
        for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            (folder / f"{place:03d}.png").write_bytes(image)
            writer.writerow((f"{place:03d}.png", prompt))
    return folder


def write_table(path: Path, image: Sequence, prompt: Sequence[str | None], *, rows_a_group: int = 8, **columns) -> Path:
    """A Parquet table, uncompressed and with checksums of its pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": image, "prompt": prompt, **columns})
    pq.write_table(table, path, row_group_size=rows_a_group, compression="none", write_page_checksum=True)
    return path


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add_member(tar, name, data)
    return path


def add_member(
    tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    tar.addfile(info, io.BytesIO(data))


def samples(images: Sequence[bytes], prompts: Sequence[str], start: int = 0) -> list[tuple[str, bytes]]:
    """The members of a tar as WebDataset has them."""
    return [
        member
        for place, (image, prompt) in enumerate(zip(images, prompts, strict=True), start)
        for member in ((f"{place:03d}.png", image), (f"{place:03d}.txt", prompt.encode()))
    ]


def write_everywhere(root: Path, images: Sequence[bytes], prompts: Sequence[str]) -> Path:
    """The same pictures in ROOT/folder, ROOT/table and ROOT/tar, each in a folder of the name `pictures`."""
    write_folder(root / "folder" / "pictures", images, prompts)
    rows = [{"bytes": data, "path": None} for data in images]
    write_table(root / "table" / "pictures" / "a.parquet", rows, prompts, rows_a_group=5)
    for number, start in enumerate(range(0, len(images), 4)):
        some = slice(start, start + 4)
        write_tar(root / "tar" / "pictures" / f"{number}.tar", samples(images[some], prompts[some], start))
    return root
