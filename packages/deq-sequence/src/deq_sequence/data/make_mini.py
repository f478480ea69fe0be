"""Extracts the embedded corpus, prose of the documentation of SQLite, from a Debian package.

    python -m deq_sequence.data.make_mini sqlite3-doc_3.40.1-2+deb12u2_all.deb mini.txt.xz

`SOURCE` is the address of the package. The text is the same on every machine, with the digest `mini.SHA256`; the
compressed file may differ with the version of liblzma.
"""

import hashlib
import io
import lzma
import re
import sys
import tarfile
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

SOURCE = "https://deb.debian.org/debian/pool/main/s/sqlite3/sqlite3-doc_3.40.1-2+deb12u2_all.deb"
SOURCE_SHA256 = "466e30d7066e2641fa13e56bc662a2ad521b8cc9c17dde9c9dac3d4f105e32f2"

# Indices, change logs and diagrams, and one page that repeats others.
LEFT_OUT = re.compile(
    r"(releaselog|syntax)/.*|(requirements|doc_.*|keyword_index|capi3ref|chronology|changes|(old)?news|syntaxdiagrams"
    r"|sitemap|search|fileformat2|toc_.*)\.html"
)
BLOCKS = {"p", "li", "dd", "dt", "h1", "h2", "h3", "h4", "blockquote", "div", "ul", "ol", "dl", "body", "center", "br"}
NO_PROSE = {"pre", "script", "style", "svg", "table", "nav", "head", "noscript", "button", "form"}
TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "\u00a0": " ", "…": "..."}  # noqa: RUF001 - replaced
)
WORD = re.compile(r"""["'(]*[A-Za-z][A-Za-z'-]*["')]*[.,;:!?]*["')]*""")


class Prose(HTMLParser):
    """Collects the blocks of running text on a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.blocks: list[str] = []
        self._pieces: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in NO_PROSE:
            self._end()
            self._inside.append(tag)
        elif tag in BLOCKS:
            self._end()
        elif tag == "title":
            self._pieces.clear()

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self.title = " ".join("".join(self._pieces).split())
            self._pieces.clear()
        elif tag in self._inside:
            # Nested elements end with it, closed or not.
            del self._inside[self._inside.index(tag) :]
            self._pieces.clear()
        elif tag in BLOCKS:
            self._end()

    def handle_data(self, data: str) -> None:
        if self._inside in ([], ["head"]):
            self._pieces.append(data)

    def close(self) -> None:
        super().close()
        self._end()

    def _end(self) -> None:
        text = " ".join("".join(self._pieces).translate(TYPOGRAPHY).split())
        self._pieces.clear()
        if text and not self._inside:
            self.blocks.append(text)


def is_prose(block: str) -> bool:
    """Whether a block is English prose: long enough, ending as a sentence, with nine of ten words free of symbols."""
    if not block.isascii() or len(block) < 80 or not block[0].isalpha() or block[-1] not in ".!?":
        return False
    words = block.split()
    return sum(WORD.fullmatch(word) is not None for word in words) >= 0.9 * len(words)


def pages(package: bytes) -> dict[str, str]:
    """The pages of the documentation, by path relative to its folder."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(member(package, "data.tar")), mode="r:*") as archive:
        for info in archive:
            path = PurePosixPath(info.name)
            if info.isfile() and path.suffix == ".html" and path.is_relative_to("usr/share/doc/sqlite3"):
                file = archive.extractfile(info)
                assert file is not None
                found[path.relative_to("usr/share/doc/sqlite3").as_posix()] = file.read().decode("utf-8", "replace")
    return dict(sorted(found.items()))


def member(package: bytes, beginning: str) -> bytes:
    """The file in an ar archive, such as a Debian package, whose name starts with `beginning`."""
    offset = len(b"!<arch>\n")
    while offset < len(package):
        header = package[offset : offset + 60]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        if name.startswith(beginning):
            return package[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2
    raise ValueError(f"no member {beginning}* in the package")


def extract(package: bytes) -> str:
    """Documents: a line with the title, a line for each paragraph, and an empty line, without repeated paragraphs."""
    documents, seen = [], set()
    for path, page in pages(package).items():
        if LEFT_OUT.fullmatch(path):
            continue
        reader = Prose()
        reader.feed(page)
        reader.close()
        blocks = [block for block in dict.fromkeys(reader.blocks) if is_prose(block) and block not in seen]
        seen.update(blocks)
        if blocks:
            documents.append("\n".join([reader.title.translate(TYPOGRAPHY), *blocks]))
    return "\n\n".join(documents) + "\n"


def main(source: Path, out: Path) -> None:
    package = source.read_bytes()
    if hashlib.sha256(package).hexdigest() != SOURCE_SHA256:
        raise ValueError(f"{source}: not the package that {SOURCE} is")
    text = extract(package).encode()
    out.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(text)} bytes, sha256 {hashlib.sha256(text).hexdigest()}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
