"""Pretrained weights of a network of timm, from a file or the hub: read as data, never as a pickle that runs code."""

from __future__ import annotations

import pickle
import warnings
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicinal.errors import first_line

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a repository of the hub, the first that is there."""
NESTED = ("state_dict_ema", "state_dict", "model_ema", "model")
"""Where a checkpoint of a training has the weights, the first that is there."""
HEADS = ("head", "fc", "classifier", "head.fc")
"""What the classifier may be called in a file of the network's authors."""


def weights_file(name: str, pretrained: bool | str) -> Path:
    """Return the file that ``pretrained`` means: this one, or with ``true`` the one that timm's name stands for.

    The hub is asked only for what is not yet in its cache. Raises ValueError: there is no such file.
    """
    if pretrained is True:
        return _from_hub(name)
    file = Path(str(pretrained)).expanduser()
    if not file.is_file():
        raise ValueError(f"pretrained must be true, false or a file of weights; there is no such file, got {file}")
    return file


def _from_hub(name: str) -> Path:
    import timm
    from huggingface_hub import hf_hub_download, logging
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    config: Any = timm.models.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        tags = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
        others = f"; {', '.join(tags[:3])} has" if tags else ""
        raise ValueError(f"pretrained must be false or a file: timm names no weights at the hub for {name}{others}")
    repository, _, revision = config.hf_hub_id.partition("@")
    files = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    asked = {"repo_id": repository, "revision": revision or None}
    for file in files:
        try:
            return Path(hf_hub_download(filename=file, local_files_only=True, **asked))
        except LocalEntryNotFoundError:
            continue
    logging.set_verbosity_error()  # it would repeat each failed attempt twice
    for file in files:
        try:
            return Path(hf_hub_download(filename=file, **asked))
        except LocalEntryNotFoundError as error:  # no connection; it is also an EntryNotFoundError
            raise _unreachable(repository, error) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # of many types: no such repository, a proxy, a full disk
            raise _unreachable(repository, error) from None
    raise ValueError(f"pretrained must be false or a file: {repository} at the hub has no {' or '.join(files)}")


def _unreachable(repository: str, error: Exception) -> ValueError:
    way = "copy its file of weights to this machine and name it, model.pretrained=<file>"
    reason = first_line(error.__cause__ or error).rstrip(".")
    return ValueError(f"pretrained needs {repository} of huggingface.co, which cannot be had ({reason}); {way}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the weights in a ``.safetensors`` file, or in one of ``torch.save``, by their names.

    Raises ValueError: it is neither, or has something else in it.
    """
    try:
        content = _read(file)
    except pickle.UnpicklingError:
        raise ValueError(f"pretrained must be weights alone, and torch.load finds other things, got {file}") from None
    except Exception as error:  # of safetensors' own class, RuntimeError, OSError
        raise ValueError(f"pretrained must be weights that can be read ({first_line(error)}), got {file}") from None
    inner = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), content)
    weights = {str(key).removeprefix("module."): weight for key, weight in inner.items()}
    if not weights or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise ValueError(f"pretrained must be weights by their names; something else is in it, got {file}")
    return weights


def _read(file: Path) -> Mapping[str, Any]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights: Mapping[str, Any] = load_file(file)
        return weights
    # timm's own training stores its arguments beside the weights: a plain object, and no code.
    # Warnings are of what the error says too.
    with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings(action="ignore"):
        content = torch.load(file, map_location="cpu", weights_only=True)
    return content if isinstance(content, Mapping) else {}


def classes_of(weights: Mapping[str, Tensor], heads: str | Iterable[str] | None, background: int) -> int:
    """Return the number of classes of the classifier among the weights, without those of the background; 0: none."""
    own = (heads,) if isinstance(heads, str) else tuple(heads or ())
    found = (weights[f"{head}.weight"] for head in (*own, *HEADS) if f"{head}.weight" in weights)
    rows = next((int(weight.shape[0]) for weight in found if weight.dim() > 1), 0)
    return max(0, rows - background)
