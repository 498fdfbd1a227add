"""Networks for sentences against sums written out and torch's own encoder, and what padding must never change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.mixing import MixPlan, mixed_forward
from vicinal.models.text import Embedding, KimCNN, Layer, TextTransformer, present

NETWORKS = {
    "kim_cnn": lambda length: KimCNN(30, length, 3, width=8, filters=4, kernels=[1, 2, 5]),
    "text_transformer": lambda length: TextTransformer(30, length, 3, width=8, depth=2, heads=2),
}
HIDDEN = [
    (name, block)
    for name, blocks in (("kim_cnn", ["embedding"]), ("text_transformer", ["embedding", "layer1", "layer2"]))
    for block in blocks
]


def network(name: str, length: int = 12) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](length).eval()


def sentences(*lengths: int, width: int = 12) -> Tensor:
    """Return sentences of these lengths, padded to a width."""
    ids = torch.randint(1, 30, (len(lengths), width), generator=torch.Generator().manual_seed(1))
    return ids * (torch.arange(width) < torch.tensor(lengths)[:, None])


def test_the_convolutions_are_those_of_every_window_with_a_word() -> None:
    model = network("kim_cnn")
    ids = sentences(1, 4, 12)
    for row, logits in zip(ids, model(ids), strict=True):
        words = model.embedding.weight[row[row != 0]]
        pooled = []
        for convolution in model.pooled.convolutions:
            filters, bias, size = convolution.weight, convolution.bias, convolution.kernel_size[0]
            padded = F.pad(words, (0, 0, size - 1, size - 1))
            windows = [padded[start : start + size] for start in range(len(words) + size - 1)]
            values = torch.stack([torch.einsum("fwk,kw->f", filters, window) + bias for window in windows])
            pooled.append(values.relu().amax(dim=0))
        torch.testing.assert_close(model.head(torch.cat(pooled)), logits, rtol=1e-5, atol=1e-6)


def test_a_layer_is_that_of_torch_under_a_mask() -> None:
    ours = Layer(8, 2, 0.0)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, F.gelu, norm_first=True, batch_first=True)
    pairs = {
        "self_attn.in_proj": ours.queries_keys_values,
        "self_attn.out_proj": ours.out,
        "linear1": ours.mlp[0],
        "linear2": ours.mlp[2],
        "norm1": ours.norm1,
        "norm2": ours.norm2,
    }
    state = theirs.state_dict()
    for name, module in pairs.items():
        for kind, value in module.state_dict().items():
            joined = f"{name}_{kind}" if name.endswith("in_proj") else f"{name}.{kind}"
            state[joined].copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(joined))))
            getattr(module, kind).data.copy_(state[joined])
    words = sentences(3, 12) != 0
    x = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(2)) * words[..., None]
    expected = theirs(x, src_key_padding_mask=~words) * words[..., None]
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_never_changes_the_logits(name: str) -> None:
    short, long = network(name, 5), network(name, 40)
    state = short.state_dict()
    if name == "text_transformer":
        state["embedding.places"] = long.embedding.places.detach().clone()
        state["embedding.places"][:5] = short.embedding.places.detach()
    long.load_state_dict(state)
    ids = sentences(1, 3, 5, width=5)
    torch.testing.assert_close(long(F.pad(ids, (0, 35))), short(ids), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "block"), HIDDEN)
def test_hidden_padding_is_zero_in_every_precision(name: str, block: str) -> None:
    model, ids, seen = network(name), sentences(1, 4, 12), []
    model.get_submodule(block).register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        model(ids)
    model(ids)
    for output in seen:
        assert torch.equal(present(output), ids != 0)


@pytest.mark.parametrize(("name", "block"), HIDDEN)
@given(lam=st.floats(0.01, 0.99), lengths=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_a_mixed_sentence_has_the_words_of_both(name: str, block: str, lam: float, lengths: tuple[int, int]) -> None:
    """The mask is the OR of both; and each later block computes what it does of the two sentences cut to the longer."""
    model, ids = network(name), sentences(*lengths)
    plan = MixPlan(torch.full((2,), lam), torch.tensor([1, 0]), layer=block)
    entering: list[Tensor] = []
    following = {"embedding": "layer1", "layer1": "layer2", "layer2": "pooled"}[block]
    following = "pooled" if name == "kim_cnn" else following
    hook = model.get_submodule(following).register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    logits = mixed_forward(model, ids, plan)
    hook.remove()
    either = (ids != 0).any(dim=0)
    assert torch.equal(present(entering[0]), either.expand(2, -1))
    longest = max(lengths)
    torch.testing.assert_close(mixed_forward(model, ids[:, :longest], plan), logits, rtol=1e-5, atol=1e-6)


def test_a_mixed_sentence_attends_to_all_words_of_the_longer_one() -> None:
    """Each word of the longer partner moves the logits, also where the sentence itself has ended."""
    model, ids = network("text_transformer"), sentences(2, 9)
    plan = MixPlan(torch.full((2,), 0.6), torch.tensor([1, 0]), layer="embedding")
    vectors: list[Tensor] = []
    hook = model.embedding.register_forward_hook(
        lambda module, args, output: vectors.append(output.detach().requires_grad_()) or vectors[-1]
    )
    logits = mixed_forward(model, ids, plan)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[0].square().sum(), vectors[0])
    assert (gradient[1].abs().amax(dim=1) > 0).tolist() == [True] * 9 + [False] * 3


def test_the_vector_of_padding_stays_zero() -> None:
    torch.manual_seed(0)
    embedding = Embedding(10, 4)
    assert embedding.weight[0].tolist() == [0, 0, 0, 0]
    least, most = embedding.weight.detach().aminmax()
    assert -0.25 <= float(least) < -0.1 < 0.1 < float(most) <= 0.25
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        embedding(torch.tensor([[1, 2, 0, 0]])).add(1).square().sum().backward()
        optimizer.step()
    assert embedding.weight[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sentence_without_words_has_finite_logits(name: str) -> None:
    assert bool(network(name)(torch.zeros(2, 12, dtype=torch.int64)).isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KimCNN(10, 5, 2, kernels=[]), "kernels must be a list of integers >= 1, at least one, got"),
        (lambda: KimCNN(10, 5, 2, kernels=[0]), "kernels must be a list of integers >= 1, at least one, got"),
        (lambda: KimCNN(10, 5, 2, width=0), "width must be at least 1, got 0"),
        (lambda: KimCNN(10, 5, 2, filters=0), "filters must be at least 1, got 0"),
        (lambda: KimCNN(10, 5, 2, dropout=1.0), "dropout must be a probability"),
        (lambda: TextTransformer(10, 5, 2, width=9, heads=2), "width must be a multiple of heads, 2, got 9"),
        (lambda: TextTransformer(10, 5, 2, depth=0), "depth must be at least 1, got 0"),
        (lambda: TextTransformer(10, 5, 2, dropout=-0.1), "dropout must be a probability"),
    ],
)
def test_arguments_out_of_range(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()  # type: ignore[operator]
