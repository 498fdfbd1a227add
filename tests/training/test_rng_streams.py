"""One seed, independent streams: what one part draws cannot move another."""

import hashlib

import pytest
import torch
from torch import Tensor

from vicinal.training.rng_streams import RngStreams, derive

GENERATORS = ("order", "augmentation", "mixing")
LENT = ("init", "dropout")
GOLDEN = {
    "order": [0.7296897768974304, 0.6500337719917297, 0.4688832759857178],
    "augmentation": [0.9118280410766602, 0.5491587519645691, 0.5858454704284668],
    "mixing": [0.9192655086517334, 0.7528661489486694, 0.43514055013656616],
    "init": [0.4353511333465576, 0.7541024684906006, 0.13503390550613403],
    "dropout": [0.016154468059539795, 0.9379099607467651, 0.14882946014404297],
}
"""torch.rand(3) on a CPU: Mersenne Twister, 24 bits a draw."""


def draw(streams: RngStreams, name: str, count: int = 3) -> Tensor:
    if name in LENT:
        with streams.default(name):
            return torch.rand(count)
    return torch.rand(count, generator=getattr(streams, name))


@pytest.mark.parametrize("name", [*GENERATORS, *LENT])
def test_golden_draws_of_seed_zero(name: str) -> None:
    assert draw(RngStreams(0), name).double().tolist() == GOLDEN[name]


@pytest.mark.parametrize("name", [*GENERATORS, *LENT])
def test_a_stream_depends_on_nothing_but_its_seed(name: str) -> None:
    alone = draw(RngStreams(3), name, 40)
    streams = RngStreams(3)
    parts = []
    for _ in range(4):
        for other in (*GENERATORS, *LENT):
            if other != name:
                draw(streams, other, 7)
        torch.rand(5)  # somebody who uses torch's default generator outside
        parts.append(draw(streams, name, 10))
    assert torch.equal(torch.cat(parts), alone)


@pytest.mark.parametrize("name", LENT)
def test_the_default_generator_is_lent_and_given_back(name: str) -> None:
    torch.manual_seed(11)
    undisturbed = torch.rand(4)
    torch.manual_seed(11)
    streams = RngStreams(0)
    first = draw(streams, name)
    assert torch.equal(torch.rand(2), undisturbed[:2])
    second = draw(streams, name)
    assert torch.equal(torch.rand(2), undisturbed[2:])
    assert torch.equal(torch.cat([first, second]), draw(RngStreams(0), name, 6))


def test_the_default_generator_is_given_back_after_an_error() -> None:
    before = torch.get_rng_state()

    def work() -> None:
        with RngStreams(0).default("init"):
            torch.rand(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        work()
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_are_unrelated() -> None:
    names = (*GENERATORS, *LENT)
    seeds = {(seed, name): derive(seed, name) for seed in range(200) for name in names}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds.values())
    # Neighbours agree in about half of their bits, as unrelated numbers do.
    bits = [(derive(seed, "order") ^ derive(seed + 1, "order")).bit_count() for seed in range(200)]
    assert 30 < sum(bits) / len(bits) < 33
    first = {tuple(draw(RngStreams(seed), name).tolist()) for seed in range(20) for name in names}
    assert len(first) == 20 * len(names)


def test_seed_is_the_first_63_bits_of_sha256() -> None:
    bits = f"{int(hashlib.sha256(b'7/mixing').hexdigest(), 16):0256b}"
    assert derive(7, "mixing") == int(bits[:63], 2)


def test_a_run_goes_on_on_another_kind_of_device() -> None:
    """Its state of a GPU is of no use on a CPU; what it drew there goes on."""
    begun = RngStreams(0)
    drawn = draw(begun, "dropout")
    state = begun.state_dict()
    state["lent"]["dropout"].append(torch.zeros(16, dtype=torch.uint8))  # of a GPU
    continued = RngStreams(0)
    continued.load_state_dict(state)
    assert torch.equal(torch.cat([drawn, draw(continued, "dropout")]), draw(RngStreams(0), "dropout", 6))
