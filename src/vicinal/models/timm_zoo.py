"""Any image classifier of timm, untrained or with pretrained weights, for any number of channels and classes."""

from __future__ import annotations

import logging
import re
import warnings
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from vicinal.errors import UserError, first_line, reason_of, written
from vicinal.models.meta import built
from vicinal.models.shapes import grown, is_probability
from vicinal.models.timm_weights import classes_of, read_weights, weights_file
from vicinal.utils.file_hash import file_hash
from vicinal.utils.image_size import ImageSize, shortest, sides

log = logging.getLogger(__name__)

STEP = 8  # pixels between two sizes that are tried: what networks of patches and windows take is a multiple of it
ARGUMENTS = {"in_chans": "channels", "drop_path_rate": "drop_path", "drop_rate": "drop"}
"""Arguments of timm that some networks do not take, and ours for them."""


def timm_model(
    channels: int,
    image_size: ImageSize,
    classes: int,
    *,
    name: str,
    pretrained: bool | str = False,
    drop_path: float = 0.0,
    drop: float = 0.0,
) -> nn.Module:
    """Make a network of timm; with ``pretrained`` weights only the classifier is drawn, if it has other classes.

    Weights are fitted by timm itself: to other channels (those of a grey image are the sum over the colours) and, of a
    transformer, to another image size. A network that has them names the ``mean`` and ``std`` of its images in the
    attribute ``normalised_by``. On the meta device (``with torch.device("meta")``) it takes no memory.

    Args:
        channels: of the images.
        image_size: pixels per side, or height and width.
        classes: number of logits.
        name: of ``timm.list_models()``, or with the tag of its weights, as in ``resnet18.a1_in1k``.
        pretrained: a file of weights; true takes those of timm's hub; false takes none.
        drop_path: rate of stochastic depth, in [0, 1).
        drop: rate of dropout before the classifier, in [0, 1).

    Raises:
        UserError: timm is not installed. ValueError: there is no such network, it cannot be built for such images or
            rates, or the weights are missing or another network's.
    """
    _check(name)
    is_probability("drop_path", drop_path)
    is_probability("drop", drop)
    options: dict[str, Any] = {"in_chans": channels, "img_size": shortest(image_size)}
    options |= {key: rate for key, rate in (("drop_path_rate", drop_path), ("drop_rate", drop)) if rate}
    if pretrained is False:
        model = _fitting(name, image_size, {**options, "num_classes": classes})
    else:
        model = _with_weights(name, image_size, classes, options, pretrained)
    if drop_path and not any(getattr(module, "drop_prob", None) for module in model.modules()):
        raise ValueError(f"drop_path must be 0 for {name}, which has no stochastic depth, got {drop_path}")
    return model


def _packages(**_: Any) -> tuple[str, ...]:
    return ("timm",)


def _fingerprint(name: str, pretrained: bool | str = False, **_: Any) -> dict[str, str]:
    if pretrained is False:
        return {}
    _check(name)
    return {"pretrained": file_hash(weights_file(name, pretrained))}


# What it can tell before it is built: packages whose versions decide its numbers, and the hash of the weights, which
# replaces the file's name in the identity of a run.
timm_model.__dict__.update(packages=_packages, fingerprint=_fingerprint)


def _check(name: str) -> None:
    if find_spec("timm") is None:
        raise UserError("model=timm needs timm, which is not installed: pip install 'vicinal[timm]'")
    import timm

    known = timm.list_models()
    if "." in name and name.partition(".")[0] in known:
        known = timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.5) or ["resnet18", "vit_tiny_patch16_224"]
        raise ValueError(f"name must be one of timm.list_models(), such as {' or '.join(close)}, got {name}")


def _fitting(name: str, image_size: ImageSize, options: dict[str, Any]) -> nn.Module:
    """Return a network for that size; on the meta device, it is tried with shapes and refused with a size that fits."""
    tried = torch.get_default_device().type == "meta"
    try:
        return _tried(name, image_size, options) if tried else _build(name, options)
    except _ArgumentError as error:
        raise ValueError(f"{error} for {name}, which takes no other") from None
    except Exception as error:  # of any type: an assertion about windows, a division by zero
        reason = first_line(error)
    own = _config(name).input_size[-1]
    shorter, longer = (side // STEP * STEP + STEP for side in sorted(sides(image_size)))
    larger = [shortest(grown(image_size, least)) for least in range(shorter, max(own, longer), STEP)]
    for size in (*larger, own) if tried else ():
        try:
            _tried(name, size, {**options, "img_size": size})
        except Exception:
            continue
        raise ValueError(
            f"image_size does not fit {name} ({reason}), which takes {written(size)}, got {written(image_size)}"
        )
    raise ValueError(f"name cannot be built for images of {written(image_size)} pixels ({reason}), got {name}")


def _tried(name: str, image_size: ImageSize, options: dict[str, Any]) -> nn.Module:
    """Return the network on the meta device, if shapes go through it."""
    model = _build(name, options)
    try:
        with torch.no_grad():
            model(torch.empty(2, options["in_chans"], *sides(image_size)))
    except Exception as error:
        if "meta" not in first_line(error).lower():  # it wants values, which shapes have not
            raise
    return model


def _config(name: str) -> Any:
    """Return what timm says of the weights of a network: their images, classes and place."""
    from timm.models import PretrainedCfg, get_pretrained_cfg

    return get_pretrained_cfg(name) or PretrainedCfg()


class _ArgumentError(Exception):
    """A network of timm does not take one of its common arguments."""


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        return built(lambda: timm.create_model(name, **options))
    except TypeError as error:
        # Python names one, `... argument 'img_size'`, and some networks a list, `... argument(s): ['img_size']`.
        refused = re.findall(r"'(\w+)'", str(error).partition("unexpected keyword argument")[2])
        for argument in refused:
            if argument in ARGUMENTS:
                only = 3 if argument == "in_chans" else 0
                raise _ArgumentError(f"{ARGUMENTS[argument]} must be {only}") from None
        if "img_size" in refused and "img_size" in options:  # a network for images of any size
            return _build(name, {key: value for key, value in options.items() if key != "img_size"})
        raise


def _with_weights(
    name: str, image_size: ImageSize, classes: int, options: dict[str, Any], pretrained: bool | str
) -> nn.Module:
    file, config = weights_file(name, pretrained), _config(name)
    weights = read_weights(file)
    own = classes_of(weights, config.classifier, config.label_offset or 0)
    with torch.device("meta"):  # first, since a size that does not fit is no fault of the file
        shapes = _fitting(name, image_size, {**options, "num_classes": classes})
    # timm takes over names, sizes and channels; but if it leaves the classifier out, it leaves out what is missing too.
    logging.getLogger("timm").setLevel(logging.WARNING)  # it tells each step
    overlay = {"state_dict": weights, "num_classes": own, "custom_load": False}
    loaded: dict[str, Any] = {"pretrained": True, "pretrained_cfg_overlay": overlay}
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore", category=UserWarning):
            _build(name, {**options, "num_classes": own, **loaded})  # strictly
    except Exception as error:  # what timm makes of a foreign file
        what = f"weights of {name} that fit images of {written(image_size)} pixels"
        raise ValueError(f"pretrained must be {what}: {_misfit(error)}, got {file}") from None
    if torch.get_default_device().type == "meta":
        return shapes
    model: Any = _build(name, {**options, "num_classes": classes, **loaded})
    model.pretrained_cfg.pop("state_dict", None)  # a copy of all weights
    model.normalised_by = (tuple(config.mean), tuple(config.std))
    if own != classes:
        has = f"a classifier of {own} classes" if own else "no classifier"
        log.info("%s has %s: that of %d is drawn by the seed", file, has, classes)
    if options["in_chans"] != config.input_size[0]:
        log.info(
            "%s: its first weights, for %d channels, are fitted to %d", file, config.input_size[0], options["in_chans"]
        )
    return model  # type: ignore[no-any-return]


def _misfit(error: Exception) -> str:
    """Return what does not fit in a complaint of ``load_state_dict``, of which there may be one line per weight."""
    text = str(error)
    for pattern, what in (
        (r"Missing key\(s\) in state_dict: \"([^\"]+)\"", "is missing"),
        (r"Unexpected key\(s\) in state_dict: \"([^\"]+)\"", "is not one of its weights"),
        (r"size mismatch for ([\w.]+):", "has another shape"),
    ):
        if found := re.search(pattern, text):
            return f"{found[1]} {what}"
    return reason_of(error)
