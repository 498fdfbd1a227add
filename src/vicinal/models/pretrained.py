"""A folder as ``save_pretrained`` of transformers writes it, read as data: JSON and safetensors, never a pickle."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vicinal.errors import UserError

FAMILIES = {"bert": "Bert", "distilbert": "DistilBert", "electra": "Electra", "roberta": "Roberta"}
"""Families whose encoders have the same parts, by ``model_type`` in config.json."""
SIZES = frozenset({
    *("vocab_size", "pad_token_id", "max_position_embeddings", "type_vocab_size", "embedding_size"),
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    *("dim", "n_layers", "n_heads", "hidden_dim", "activation", "dropout", "attention_dropout", "seq_classif_dropout"),
})  # fmt: skip
"""All that is taken from config.json: the rest can name code, kernels or other files."""
ALWAYS: dict[str, Any] = {
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "sinusoidal_pos_embds": False,
}
"""What config.json may say of these, since the encoders here have nothing else."""
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


class PretrainedFolder(NamedTuple):
    """What a network is made of.

    Attributes:
        path: the folder.
        family: as the classes of transformers begin, such as "Bert".
        sizes: arguments of its config.
        weights: its files.
    """

    path: Path
    family: str
    sizes: dict[str, Any]
    weights: list[Path]

    def state(self) -> dict[str, Tensor]:
        """Return the weights by their names."""
        from safetensors.torch import load_file

        return {name: weight for file in self.weights for name, weight in load_file(file).items()}

    def has_tokenizer_of(self, folder: str | None) -> bool:
        """Return whether another folder has the same tokenizer."""
        own, other = self.path / TOKENIZER, Path(folder or "").expanduser() / TOKENIZER
        return folder is not None and own.is_file() and own.read_bytes() == other.read_bytes()


def read_folder(folder: str | None) -> PretrainedFolder:
    """Return a folder of which all has been checked but the values of the weights.

    Raises UserError: transformers is not installed. ValueError: something is missing, damaged, or not supported.
    """
    if find_spec("transformers") is None:
        raise UserError(
            "model=huggingface needs transformers, which is not installed: pip install 'vicinal[huggingface]'"
        )
    if folder is None:
        raise ValueError(
            "folder must be one that save_pretrained wrote: dataset.tokenizer=<folder> sets both, got None"
        )
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ValueError(f"folder must be one that save_pretrained wrote, and there is no such folder, got {folder}")
    family, sizes = _config(path / CONFIG, folder)
    return PretrainedFolder(path, family, sizes, _weights(path, folder))


def _config(file: Path, folder: str) -> tuple[str, dict[str, Any]]:
    if not file.is_file():
        raise ValueError(f"folder must have {CONFIG}, as save_pretrained writes it, got {folder}")
    content = _json(file, folder)
    if (kind := content.get("model_type")) not in FAMILIES:
        raise ValueError(
            f"folder must have a model_type of {', '.join(FAMILIES)} in {CONFIG}, not {kind}, got {folder}"
        )
    for name, only in ALWAYS.items():
        if content.get(name, only) != only:
            raise ValueError(
                f"folder must have an encoder: {name} in {CONFIG} must be {json.dumps(only)}, got {folder}"
            )
    return FAMILIES[kind], {name: value for name, value in content.items() if name in SIZES}


def _weights(path: Path, folder: str) -> list[Path]:
    from safetensors import safe_open

    names = [WEIGHTS] if (path / WEIGHTS).is_file() else []
    if not names and (path / SHARDS).is_file():
        names = sorted({str(name) for name in dict(_json(path / SHARDS, folder).get("weight_map", {})).values()})
    if not names:
        pickled = next((name for name in PICKLES if (path / name).exists()), None)
        reason = f"{pickled} is a pickle, which can run code when it is read" if pickled else "it has none"
        raise ValueError(f"folder must have its weights as {WEIGHTS}: {reason}, got {folder}")
    files = [path / Path(name).name for name in names]  # whatever the index says, in this folder
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except Exception as error:  # of a class of its own, or OSError
            raise ValueError(
                f"folder must have weights that can be read: {file.name}: {error}, got {folder}"
            ) from error
    return files


def _json(file: Path, folder: str) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"folder must have a {file.name} that can be read ({error}), got {folder}") from error
