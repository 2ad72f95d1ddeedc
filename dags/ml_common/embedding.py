"""Embeddings of texts: the encoder of the embedding model, which is BERT followed by the mean over the tokens."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from ml_common import device, embedding_model
from ml_common.embedding_model import DIMENSIONS, MAX_TOKENS

LAYERS, HEADS, FEED_FORWARD, EPSILON = 6, 12, 1536, 1e-12
BATCH = 32


class Encoder(nn.Module):
    """BERT as far as the model uses it: texts of one segment, and no pooler."""

    words: Tensor
    positions: Tensor

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("words", weights["embeddings.word_embeddings.weight"])
        # There is one segment, so its embedding is a constant.
        positions = weights["embeddings.position_embeddings.weight"]
        self.register_buffer("positions", positions + weights["embeddings.token_type_embeddings.weight"][0])
        self.norm = nn.LayerNorm(DIMENSIONS, EPSILON)
        layer = nn.TransformerEncoderLayer(
            DIMENSIONS, HEADS, FEED_FORWARD, activation="gelu", layer_norm_eps=EPSILON, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm.load_state_dict({name: weights[f"embeddings.LayerNorm.{name}"] for name in ("weight", "bias")})
        for number, one in enumerate(self.layers.layers):
            one.load_state_dict(_layer(weights, f"encoder.layer.{number}"))

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return vectors of length 1, [N, 384], for the numbers of tokens, [N, T], of which `real` are no padding."""
        hidden = self.norm(nn.functional.embedding(tokens, self.words) + self.positions[: tokens.shape[1]])
        hidden = self.layers(hidden, src_key_padding_mask=~real) * real[..., None]
        return nn.functional.normalize(hidden.sum(1))


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vector of each text, [N, 384]; the dot product of two is their cosine similarity."""
    tokenizer, encoder = _tokenizer(), _encoder()
    device.cpu(device.usable_cores())
    # Texts of similar length together, because each is padded to the longest of its batch.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    vectors = np.empty((len(texts), DIMENSIONS), np.float32)
    with torch.inference_mode():
        for begin in range(0, len(texts), BATCH):
            numbers = order[begin : begin + BATCH]
            encoded = tokenizer.encode_batch([texts[number] for number in numbers])
            tokens = torch.tensor([one.ids for one in encoded])
            real = torch.tensor([one.attention_mask for one in encoded], dtype=torch.bool)
            vectors[numbers] = encoder(tokens, real).numpy()
    return vectors


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = embedding_model.tokenizer()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


@cache
def _encoder() -> Encoder:
    return Encoder(load_file(embedding_model.folder() / "model.safetensors")).eval()


def _layer(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights of a layer by the names of PyTorch, which keeps query, key and value in one matrix."""
    names = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    found = {}
    for kind in ("weight", "bias"):
        attention = [weights[f"{prefix}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        found[f"self_attn.in_proj_{kind}"] = torch.cat(attention)
        found |= {f"{name}.{kind}": weights[f"{prefix}.{of_bert}.{kind}"] for name, of_bert in names.items()}
    return found
