"""Commands for data, of the pipeline and published."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import ADDED, PARAMS, Positional, default, finish, finish_with
from deq_core.experiment.data.manifest import write_manifest
from deq_core.experiment.files import output_directory
from deq_sequence.commands.study import STUDIES
from deq_sequence.data import texts
from deq_sequence.data.registry import REGISTRY


def download(
    name: Annotated[str, Positional, default("the data of PARAMS")] = "",
    out: Annotated[Path | None, ADDED, default("data/sequence; with a published NAME, data")] = None,
    params: Path = PARAMS,
    section: str = "sequence",
) -> None:
    """Prepares the texts of `params` in OUT; with NAME, downloads a published corpus.

    The vocabulary of each text is learnt from it, and the text is written as token numbers. NAME is wikitext-103 or
    wikitext-2. An interrupted download resumes. The complete file must have the checksum of the original archive.

    Args:
        name: a published corpus; or mini, the embedded text in 768 byte pairs as `text`, whatever `params` says.
        out: folder of the data.
        params: file with the parameters.
        section: section of that file.
    """
    if name and name != "mini":
        REGISTRY.fetch(name, Path("data") if out is None else out)
        return
    out = Path("data/sequence") if out is None else out
    if name:
        settings = {"text": texts.Text(corpus=texts.Embedded(), tokens="byte_pairs", size=texts.TokenChoice().size)}
    else:
        STUDIES.check("sequence", params, section)
        settings = config.load(dict[config.Name, texts.Text], params, f"{section}.texts")
    with output_directory(out) as partial:
        sizes = {name: texts.prepare(partial / name, text) for name, text in settings.items()}
        write_manifest(partial, settings)
    finish({f"{name}.vocabulary": len(tokens.vocabulary) for name, tokens in sizes.items()})


def check_data(name: Annotated[str, Positional], data: Path = Path("data"), released: bool = True) -> None:
    """Checks the corpus NAME in the folder DATA for missing and truncated files.

    Prints one line for each problem; the exit status is then 1.

    Args:
        name: a published corpus.
        data: folder that contains the corpus.
        released: require as many lines as published; turn this off for other texts in the same layout.
    """
    finish_with(REGISTRY.check(name, data, released=released))
