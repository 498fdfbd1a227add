"""Laws, partner rules, label rules and schedules: against closed forms, the published strengths and brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linear_sum_assignment

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Mixup
from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.features import PatchUp
from vicinal.mixing.label_rules import LABEL_RULES, Remix
from vicinal.mixing.laws import LAWS, Law, Truncated
from vicinal.mixing.partners import PARTNERS, LabelKernel, Nearest
from vicinal.mixing.schedule import Schedule
from vicinal.mixing.unimix import UniMix
from vicinal.mixing.zeta import ZetaMixup

SHAPE = (6, 3, 8, 8)
LABELS = torch.tensor([0, 1, 0, 1, 2, 2])
CONTEXT = Context(
    labels=LABELS,
    images=torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    counts=torch.tensor([10, 100, 20]),
)

NUMBERS = replace(CONTEXT, labels=LABELS[:, None].float())
"""Targets of a regression."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def law(name: str, alpha: float = 1.0, low: float = 0.3, high: float = 0.5, lam: float = 0.7) -> Law:
    part = InputMixup(alpha, law=name, low=low, high=high, lam=lam, beta=0.2)._parts["law"]
    assert isinstance(part, Law)
    return part


ORACLES = {
    "beta": lambda x: stats.beta.cdf(x, 0.5, 0.5),
    "asymmetric": stats.beta(0.5, 0.2).cdf,
    "folded": lambda x: np.clip(2 * stats.beta.cdf(x, 0.5, 0.5) - 1, 0, 1),
    "truncated": lambda x: np.clip(
        (stats.beta.cdf(x, 0.5, 0.5) - stats.beta.cdf(0.3, 0.5, 0.5))
        / (stats.beta.cdf(0.5, 0.5, 0.5) - stats.beta.cdf(0.3, 0.5, 0.5)),
        0,
        1,
    ),
    "uniform": stats.uniform(0.3, 0.2).cdf,
}


@pytest.mark.parametrize("name", ORACLES)
def test_laws_against_scipy(name: str) -> None:
    drawn, oracle = law(name, 0.5), ORACLES[name]
    assert stats.kstest(drawn.draw(20_000, seeded()).numpy(), oracle).pvalue > 0.01
    for x in np.linspace(0.01, 0.99, 23):
        assert drawn.below(x) == pytest.approx(float(oracle(x)), abs=1e-12)


def test_constant_is_always_the_same() -> None:
    drawn = law("constant")
    assert drawn.draw(3, seeded()).tolist() == [0.7] * 3
    assert (drawn.below(0.7), drawn.below(0.70001)) == (0.0, 1.0)


@pytest.mark.parametrize("count", [1, 7])
def test_every_law_takes_the_same_numbers(count: int) -> None:
    after = []
    for name in LAWS:
        generator = seeded()
        law(name).draw(count, generator)
        after.append(torch.rand((), generator=generator).item())
    assert len(set(after)) == 1


@pytest.mark.parametrize(
    ("name", "alpha", "partner", "ceiling", "floor"),
    [
        ("beta", 0.2, 0.500, 0.899, 0.226),
        ("beta", 1.0, 0.500, 0.749, 0.502),
        ("folded", 0.2, 0.101, 0.899, 0.226),
        ("folded", 1.0, 0.251, 0.749, 0.502),
        ("uniform", 1.0, 0.600, 0.600, 0.666),
        ("beta", 10.0, 0.500, 0.588, 0.669),
        ("beta", 32.0, 0.500, 0.549, 0.685),
    ],
)
def test_strengths(name: str, alpha: float, partner: float, ceiling: float, floor: float) -> None:
    """Mean weight of the partner, highest accuracy and lowest loss, measured independently over 40,000 draws."""
    lam = law(name, alpha).draw(40_000, seeded())
    entropy = torch.special.entr(lam) + torch.special.entr(1 - lam)
    means = [values.mean().item() for values in (1 - lam, torch.maximum(lam, 1 - lam), entropy)]
    assert means == pytest.approx([partner, ceiling, floor], abs=0.005)


def test_an_interval_that_a_law_does_not_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^low must leave an interval that Beta\(50, 50\) reaches: \[0, 0.1\]"):
        Truncated(50.0, 0.0, 0.1)


@pytest.mark.parametrize(
    ("keys", "refusal"),
    [
        ({"law": "gauss"}, "law must be one of beta, asymmetric, folded, .*, constant, or a Law, got gauss"),
        ({"law": "asymmetric", "beta": 0.0}, "beta must be a finite number > 0, got 0.0"),
        ({"partner": "class_balanced", "balance": -1.0}, "balance must be a finite number >= 0, got -1.0"),
        ({"law": "uniform", "low": -0.1}, r"low must be in \[0, 1\], got -0.1"),
        ({"law": "uniform", "low": 0.6, "high": 0.5}, r"high must be in \[low, 1\], got 0.5"),
        ({"law": "constant", "lam": 1.5}, r"lam must be in \[0, 1\], got 1.5"),
        ({"partner": "friend"}, "partner must be one of permutation, .*, blank, or a PartnerRule, got friend"),
        ({"partner": True}, "partner must be one of .*, got True"),
        ({"law": None}, "law must be one of .*, got None"),
        ({"labels": {"share": 0.5}}, "labels must be one of .*, got {'share': 0.5}"),
        ({"partner": Truncated(1.0, 0.3, 0.5)}, r"partner must be one of .*, or a PartnerRule, got Truncated\(.*"),
        ({"partner": "nearest", "group": 0}, "group must be >= 1, got 0"),
        ({"partner": "label_kernel", "bandwidth": 0.0}, "bandwidth must be > 0, got 0.0"),
        ({"labels": "half"}, "labels must be one of area, drawn, majority, remix, constant, or a LabelRule, got half"),
        ({"labels": "constant", "label_weight": 2.0}, r"label_weight must be in \[0, 1\], got 2.0"),
        ({"labels": "remix", "kappa": 0.5}, "kappa must be >= 1, got 0.5"),
        ({"window": [1.0]}, r"window must be \[start, stop\] with 0 <= start < stop, got \[1.0\]"),
        ({"window": [0.5, 0.1]}, r"window must be \[start, stop\] .*"),
        ({"window": [1.0, 1.0]}, r"window must be \[start, stop\] .*"),
        ({"members": 1}, "members must be >= 2, got 1"),
        ({"members": 3, "law": "uniform"}, "law must be beta for more than two members, got uniform"),
        ({"alpha_end": -1.0}, "alpha_end must be a finite number >= 0, got -1.0"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, object], refusal: str) -> None:
    with pytest.raises(ValueError, match=f"^{refusal}"):
        InputMixup(1.0, **keys)  # type: ignore[arg-type]


def test_keys_without_effect_are_named() -> None:
    always = {"beta", "group", "balance", "bandwidth", "label_weight", "kappa", "tau", "together"}
    assert InputMixup.unused() == always | {"low", "high", "lam"}
    assert InputMixup.unused(law="uniform") == always | {"alpha", "alpha_end", "lam"}
    assert InputMixup.unused(law="uniform", partner="nearest") == (always | {"alpha", "alpha_end", "lam"}) - {"group"}

    class Own(Mixup):
        def draw_lam(self, rows, generator, context):  # type: ignore[no-untyped-def]
            return torch.full((rows,), 0.5, dtype=torch.float64)

    assert {"law", "alpha", "lam", "low", "high", "members"} <= Own.unused()
    assert {"partner", "group", "balance", "bandwidth"} <= ZetaMixup.unused()  # it orders the batch itself
    assert {"labels", "label_weight", "kappa", "tau"} <= PatchUp.unused()  # the network's features decide


def draws(name: str, batch: int = 6, count: int = 300, **keys: object) -> torch.Tensor:
    strategy = InputMixup(1.0, partner=name, **keys)  # type: ignore[arg-type]
    context = (NUMBERS if name == "label_kernel" else CONTEXT) if batch == 6 else NOTHING
    generator = seeded()
    return torch.stack([strategy.draw_partner(batch, generator, context) for _ in range(count)])


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
@pytest.mark.parametrize("name", ["permutation", "derangement", "roll", "flip", "next"])
def test_permutations_of_any_batch(name: str, batch: int) -> None:
    for partner in draws(name, batch, 20):
        assert sorted(partner.tolist()) == list(range(batch))


def test_partners_by_place() -> None:
    assert draws("roll", count=1).tolist() == [[5, 0, 1, 2, 3, 4]]
    assert draws("next", count=1).tolist() == [[1, 2, 3, 4, 5, 0]]
    assert draws("flip", count=1).tolist() == [[5, 4, 3, 2, 1, 0]]


def test_a_derangement_has_each_other_sample_as_often() -> None:
    partners = draws("derangement", count=3000)
    assert not (partners == torch.arange(6)).any()
    counts = torch.bincount(partners[:, 0], minlength=6)[1:]
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_classes_of_partners() -> None:
    same, other = draws("same_class"), draws("other_class", count=3000)
    assert torch.equal(LABELS[same], LABELS.expand_as(same))
    assert all(sorted(partner.tolist()) == list(range(6)) for partner in same)
    assert same[:, 0].unique().tolist() == [0, 2]
    assert not (LABELS[other] == LABELS).any()
    assert stats.chisquare(torch.bincount(other[:, 0])[[1, 3, 4, 5]].numpy()).pvalue > 0.01
    alone = InputMixup(1.0, partner="other_class").draw_partner(
        3, seeded(), Context(labels=torch.zeros(3, dtype=torch.long))
    )
    assert alone.tolist() == [0, 1, 2]


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_rare_classes_are_partners_more_often(balance: float) -> None:
    partners = draws("class_balanced", count=1000, balance=balance).flatten()
    weights = torch.tensor([10.0, 100.0, 20.0], dtype=torch.float64)[LABELS] ** -balance
    expected = 6000 * weights / weights.sum()
    assert stats.chisquare(torch.bincount(partners, minlength=6).numpy(), expected.numpy()).pvalue > 0.01


@given(st.integers(0, 2**31 - 1))
def test_unimix_is_its_formula(seed: int) -> None:
    """From the lambda that input mixup draws with the same numbers."""
    keys = {"alpha": 0.8, "per_sample": True, "partner": "class_balanced", "balance": 0.5}
    plain = InputMixup(**keys).sample(SHAPE, seeded(seed), CONTEXT)  # type: ignore[arg-type]
    plan = UniMix(alpha=0.8).sample(SHAPE, seeded(seed), CONTEXT)
    assert torch.equal(plan.partner, plain.partner)
    counts = [10, 100, 20]
    for own, lam, before, partner in zip(LABELS, plan.lam, plain.lam, plan.partner, strict=True):
        other = counts[LABELS[partner]]
        assert lam.item() == pytest.approx((before.item() + other / (counts[own] + other)) % 1, abs=1e-6)
    x = torch.randn(SHAPE, generator=seeded(1))
    weight = plan.lam[:, None, None, None]
    torch.testing.assert_close(plan.mix(x), weight * x + (1 - weight) * x[plan.partner])


def test_a_kernel_of_labels() -> None:
    partners = draws("label_kernel", count=4000, bandwidth=0.8)
    weights = torch.exp(-((LABELS - LABELS[0]) ** 2) / (2 * 0.8**2))
    expected = 4000 * weights / weights.sum()
    assert stats.chisquare(torch.bincount(partners[:, 0], minlength=6).numpy(), expected.numpy()).pvalue > 0.01


def test_a_kernel_of_several_numbers() -> None:
    generator = seeded()
    y = torch.randn(6, 3, generator=generator)
    rule = LabelKernel(bandwidth=1.3)
    partners = torch.stack([rule.draw(6, generator, Context(labels=y)) for _ in range(4000)])
    weights = torch.exp(-((y.double() - y[2].double()) ** 2).sum(dim=1) / (2 * 1.3**2))
    expected = 4000 * weights / weights.sum()
    assert stats.chisquare(torch.bincount(partners[:, 2], minlength=6).numpy(), expected.numpy()).pvalue > 0.01


@pytest.mark.parametrize("bandwidth", [1e-200, 1e-320])
def test_a_kernel_of_no_width_keeps_the_sample_itself(bandwidth: float) -> None:
    y = torch.arange(6.0)[:, None]
    assert LabelKernel(bandwidth=bandwidth).draw(6, seeded(), Context(labels=y)).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "labels", [LABELS, torch.rand(6) > 0.5, torch.rand(6, 4) > 0.5, torch.rand(6, 2, 6), torch.zeros(6, 8, 8).byte()]
)
def test_classes_sets_boxes_and_maps_have_no_distances(labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^partner must be a rule without distances: .* a regression, not of labels"):
        InputMixup(1.0, partner="label_kernel").sample(SHAPE, seeded(), Context(labels=labels))


def test_numbers_of_words_have_no_distances() -> None:
    ids = torch.randint(1, 9, (6, 5))
    with pytest.raises(
        ValueError, match=r"^partner must be a rule without distances: these inputs are numbers of words"
    ):
        Nearest(group=2).draw(6, seeded(), Context(images=ids))


def test_nearest_is_the_best_assignment() -> None:
    assert CONTEXT.images is not None
    flat = CONTEXT.images.flatten(1)
    for partner in draws("nearest", count=5, group=6):
        assert partner.tolist() == list(range(6))  # nothing is nearer than itself, over the whole batch
    for partner in draws("nearest", count=20, group=3):
        assert sorted(partner.tolist()) == list(range(6))
        distance = (flat - flat[partner]).square().sum().item()
        groups = [[sorted(g), sorted(partner[list(g)].tolist())] for g in itertools.combinations(range(6), 3)]
        cost = torch.cdist(flat, flat).square()
        best = min(
            sum(
                cost[a][:, b].numpy()[linear_sum_assignment(cost[a][:, b])].sum()
                for a, b in ((own, other), (list({*range(6)} - {*own}), list({*range(6)} - {*other})))
            )
            for own, other in groups
        )
        assert distance >= best * (1 - 1e-5)


def test_facts_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match=r"^context.labels is needed"):
        InputMixup(1.0, partner="same_class").sample(SHAPE, seeded())
    assert InputMixup(1.0, partner="nearest", labels="remix", alpha_end=2.0).needs == {
        "images",
        "labels",
        "counts",
        "progress",
    }
    assert InputMixup(1.0).needs == set()


def test_a_blank_partner_is_cutout() -> None:
    plan = CutMix(1.0, partner="blank").sample(SHAPE, seeded(3))
    images = torch.rand(*SHAPE) + 1
    mixed = plan.mix(images)
    blank = mixed == 0
    assert blank[0, 0].float().mean().item() == pytest.approx(1 - plan.own_share(SHAPE).item())
    assert torch.equal(mixed[~blank], images[~blank])
    assert torch.equal(plan.targets(LABELS, 3), torch.eye(3)[LABELS])


def test_label_rules_by_hand() -> None:
    lam = {
        name: InputMixup(1.0, labels=name, label_weight=0.9, law="constant", lam=0.4).sample(SHAPE, seeded(), CONTEXT)
        for name in LABEL_RULES
    }
    assert {name: plan.lam.unique().tolist() for name, plan in lam.items() if name != "remix"} == {
        "area": [pytest.approx(0.4)],
        "drawn": [pytest.approx(0.4)],
        "majority": [0.0],
        "constant": [pytest.approx(0.9)],
    }
    images = torch.rand(*SHAPE)
    for plan in lam.values():  # the labels change, the images do not
        assert torch.equal(plan.mix(images), lam["area"].mix(images))


def test_a_sample_that_is_not_mixed_keeps_its_label() -> None:
    for name in LABEL_RULES:
        plan = InputMixup(1.0, labels=name, prob=0.5, per_sample=True).sample(SHAPE, seeded(2), CONTEXT)
        unmixed = plan.applied_mask.own_share(SHAPE) == 1
        assert unmixed.any()
        assert (plan.lam[unmixed] == 1).all()


@given(st.floats(0, 1), st.floats(1, 5), st.floats(0, 1), st.integers(0, 2), st.integers(0, 2))
def test_remix_is_its_formula(lam: float, kappa: float, tau: float, own: int, other: int) -> None:
    counts = [10, 100, 20]
    context = Context(labels=torch.tensor([own, other]), counts=torch.tensor(counts))
    weights = Remix(kappa, tau).weight(
        torch.tensor([lam]), torch.tensor([lam], dtype=torch.float64), torch.tensor([1, 0]), context
    )
    ratio = counts[own] / counts[other]
    expected = lam
    if ratio >= kappa and lam < tau:
        expected = 0.0
    elif ratio <= 1 / kappa and 1 - lam < tau:
        expected = 1.0
    assert weights[0].item() == expected


def test_windows_in_shares_and_in_epochs() -> None:
    def inside(window: list[float], progress: float, epochs: int = 10) -> float:
        return Schedule(window).share(Context(progress=progress, epochs=epochs))

    assert [inside([0.2, 0.5], at) for at in (0.0, 0.2, 0.49, 0.5, 0.9)] == [0, 1, 1, 0, 0]
    assert [inside([2, 5], at) for at in (0.0, 0.2, 0.49, 0.5, 0.9)] == [0, 1, 1, 0, 0]
    assert Schedule().share(NOTHING) == 1


def test_the_taper_of_mixup_without_hesitation() -> None:
    schedule = Schedule(taper=True)
    share = [schedule.share(Context(progress=(epoch - 1) / 100, epoch=epoch, epochs=100)) for epoch in range(1, 101)]
    assert share[:60] == [1.0] * 60
    assert share[60:90] == [1.0, 0.0] * 15
    assert share[90:] == pytest.approx([1 - left / 10 for left in range(10)])


def test_nothing_is_mixed_outside_of_the_window_and_the_draws_stay() -> None:
    plain, windowed = InputMixup(1.0), InputMixup(1.0, window=[0.0, 0.5])
    one, other = seeded(), seeded()
    plans = [(plain.sample(SHAPE, one), windowed.sample(SHAPE, other, Context(progress=at))) for at in (0.2, 0.6, 0.4)]
    assert [windowed.active for _, windowed in plans] == [True, False, True]
    assert torch.equal(plans[2][0].lam, plans[2][1].lam)
    assert torch.equal(plans[2][0].partner, plans[2][1].partner)


def test_alpha_moves_to_its_end() -> None:
    strategy = InputMixup(1.0, alpha_end=3.0)
    for progress, alpha in ((0.0, 1.0), (0.25, 1.5), (1.0, 3.0)):
        context = Context(progress=progress)
        assert torch.equal(strategy.sample(SHAPE, seeded(), context).lam, InputMixup(alpha).sample(SHAPE, seeded()).lam)
        assert strategy.law_of_lambda(20, context) == InputMixup(alpha).law_of_lambda(20)


@pytest.mark.parametrize("name", PARTNERS)
@pytest.mark.parametrize(
    "make", [InputMixup, CutMix, lambda alpha, **keys: ManifoldMixup(alpha, ["input", "a"], **keys)]
)
@pytest.mark.parametrize("per_sample", [False, True])
def test_every_part_works_with_every_strategy(name: str, make: type[Mixup], per_sample: bool) -> None:
    images = torch.rand(*SHAPE)
    numeric = name == "label_kernel"  # whose targets have no class
    for labels, law_name in itertools.product([rule for rule in LABEL_RULES if not numeric or rule != "remix"], LAWS):
        strategy = make(1.0, partner=name, labels=labels, law=law_name, low=0.2, high=0.9, per_sample=per_sample)
        plan = strategy.sample(SHAPE, seeded(), NUMBERS if numeric else CONTEXT)
        assert isinstance(plan, MixPlan)
        targets = plan.targets(LABELS, 3)
        assert torch.allclose(targets.sum(dim=1), torch.ones(6))
        assert targets.min() >= 0
        mixed = plan.mix(images)
        assert mixed.min() >= (0 if name == "blank" else images.min())
        assert mixed.max() <= images.max()
