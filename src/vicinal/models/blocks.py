"""Find the blocks of a network that manifold mixup may mix, by structure, so that any ``nn.Module`` will do.

Mixing must come after a WHOLE residual block (arXiv 1806.05236): inside one, the shortcut would carry the unmixed
signal past it. The rule therefore opens a module only where its children should run one after the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from torch import nn

Part = tuple[str, nn.Module]

TRUNK_SHARE = 0.9  # A part with more than this share of the weights is the body of the network, not one block of it


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the blocks whose output may be mixed, from input to output, without the final classifier.

    Names are those of ``model.named_modules()``. A network that has an attribute ``blocks``, a tuple of names, has the
    last word. For any other:

    - the last child with weights is the classifier, and not a block;
    - a block is a child made of several modules: a stage, a residual block, a convolution with its norm;
    - a child with nine tenths of the weights is opened, if it is a ``Sequential`` or holds a stack of equal blocks:
      torchvision's ``features``, RegNet's ``trunk_output``, the ``encoder`` of a ViT;
    - a ``Sequential`` of single layers (VGG) has a block wherever it pools or, if it never does, at each activation.

    A network whose forward calls single layers one by one has no blocks by this rule: it can name them in ``blocks``.

    >>> block_names(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    ('1', '3')
    """
    declared = getattr(model, "blocks", None)
    if isinstance(declared, tuple):
        return declared
    parts = _parts("", model)
    weighted = [part for part in parts if _weights(part[1])]
    if not weighted:
        return ()
    name, last = weighted[-1]
    if len(weighted) == 1 and _parts("", last):  # the model wraps the network
        return tuple(f"{name}.{block}" for block in block_names(last))
    return tuple(_cuts(parts[: parts.index((name, last))], _is_chain(model)))


def _cuts(parts: list[Part], chain: bool) -> list[str]:
    blocks = [part for part in parts if _is_block(*part)]
    if not blocks:
        return _stage_ends(parts) if chain else []
    trunk = max(blocks, key=lambda part: _weights(part[1]))
    share = _weights(trunk[1]) / sum(_weights(module) for _, module in blocks)
    names = []
    for name, module in blocks:
        opened = []
        if module is trunk[1] and share > TRUNK_SHARE and (_is_chain(module) or _holds_stack(module)):
            opened = _cuts(_parts(name, module), _is_chain(module))
        names += opened if len(opened) > 1 else [name]
    return names


def _parts(name: str, module: nn.Module) -> list[Part]:
    """Return the children of a module; those of a ModuleList or ModuleDict, which does not run, in its place."""
    parts = []
    for child_name, child in module.named_children():
        full_name = f"{name}.{child_name}" if name else child_name
        runs = type(child).forward is not nn.Module.forward
        parts += [(full_name, child)] if runs else _parts(full_name, child)
    return parts


def _is_block(name: str, module: nn.Module) -> bool:
    side_branch = "aux" in name.rpartition(".")[2].lower()
    one_tensor_out = not isinstance(module, nn.MultiheadAttention)
    return bool(_parts("", module)) and _weights(module) > 0 and one_tensor_out and not side_branch


def _is_chain(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def _holds_stack(module: nn.Module) -> bool:
    """Return whether two or more blocks of one class are in a row inside: an encoder, and no residual block."""
    for inner in module.modules():
        if _is_chain(inner) or type(inner).forward is nn.Module.forward:
            classes = Counter(type(child) for child in inner.children() if list(child.children()))
            if any(number > 1 for kind, number in classes.items() if not issubclass(kind, nn.Sequential)):
                return True
    return False


def _stage_ends(parts: list[Part]) -> list[str]:
    names = defaultdict(list)
    for name, module in parts:
        names[type(module).__module__].append(name)
    return names["torch.nn.modules.pooling"] or names["torch.nn.modules.activation"]


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
