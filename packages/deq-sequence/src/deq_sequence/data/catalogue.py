"""Where the corpora are published, on what terms, and where below the folder of the data they go."""

from collections.abc import Mapping

from deq_core.experiment.download.fetch import Archive, Source

# Host: that of the corpus's first author. The original addresses, an S3 bucket of MetaMind, are closed: so
# IST-DASLab/Quartet, pull request 11, and ooples/AiDotNet, issue 1284. Checksums: those of the original archives, as
# torchtext states them in torchtext/datasets/wikitext103.py and wikitext2.py.
HOST = "https://wikitext.smerity.com"
LICENCE = (
    "Text of Wikipedia, Creative Commons Attribution-ShareAlike (CC BY-SA). Cite Merity et al., Pointer Sentinel "
    "Mixture Models, ICLR 2017."
)

SOURCES: Mapping[str, Source] = {
    "wikitext-103": Source(
        title="WikiText-103",
        page=HOST,
        licence=f"{LICENCE} 190 MB packed.",
        archives=(
            Archive(
                out="wikitext-103",
                urls=(f"{HOST}/wikitext-103-v1.zip",),
                checksum="md5:9ddaacaf6af0710eda8c456decff7832",
            ),
        ),
    ),
    "wikitext-2": Source(
        title="WikiText-2",
        page=HOST,
        licence=f"{LICENCE} 4 MB packed.",
        archives=(
            Archive(
                out="wikitext-2",
                urls=(f"{HOST}/wikitext-2-v1.zip",),
                checksum="md5:542ccefacc6c27f945fb54453812b3cd",
            ),
        ),
    ),
}
"""By the name that `corpora.read_wikitext` knows the corpus by."""
