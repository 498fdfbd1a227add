"""Mixing inside a network against forwards cut by hand, finite differences and an uncompiled run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torchvision.models import ResNet, resnet18

from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix, Strategy, mixed_forward
from vicinal.mixing.forward import MixHooks

STAGES = ["layer1", "layer2", "layer3", "layer4"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plan_at(layer: str | None, batch: int = 4, seed: int = 0, active: bool = True) -> MixPlan:
    generator = seeded(seed)
    lam = torch.rand(batch, generator=generator)
    return MixPlan(lam, torch.arange(batch).roll(1), layer, active=active)


@pytest.fixture(scope="module")
def network() -> ResNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet18(num_classes=10)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=seeded(1))


def cut_by_hand(model: ResNet, x: Tensor, plan: MixPlan) -> Tensor:
    """torchvision's ``ResNet._forward_impl`` with the weighted mean written out after one stage."""
    lam = plan.lam.view(-1, 1, 1, 1)
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    for name in STAGES:
        x = getattr(model, name)(x)
        if name == plan.layer:
            x = torch.lerp(x[plan.partner], x, lam)
    logits: Tensor = model.fc(torch.flatten(model.avgpool(x), 1))
    return logits


def tiny(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Three named blocks, smooth everywhere: images (B, 2, 4, 4) to logits (B, 3)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential()
        model.add_module("first", nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh()))
        model.add_module("second", nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh()))
        model.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))
    return model.to(dtype)


def hooks_of(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]


class TestMixedForward:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("layer", STAGES)
    def test_every_stage_of_resnet18_equals_a_hand_cut_forward(
        self, network: ResNet, images: Tensor, layer: str, training: bool
    ) -> None:
        model = copy.deepcopy(network).train(training)
        other = copy.deepcopy(model)
        plan = plan_at(layer)
        ours, by_hand = mixed_forward(model, images, plan), cut_by_hand(other, images, plan)
        assert torch.equal(ours, by_hand)
        assert not torch.equal(ours, other(images))
        # The same gradients reach every weight, through both branches.
        for logits in (ours, by_hand):
            logits.square().sum().backward()  # type: ignore[no-untyped-call]
        for weight, expected in zip(model.parameters(), other.parameters(), strict=True):
            assert weight.grad is not None
            assert expected.grad is not None
            assert torch.equal(weight.grad, expected.grad)

    @pytest.mark.parametrize(
        "strategy", [InputMixup(1.0), CutMix(1.0), ManifoldMixup(1.0, ["input"])], ids=["input", "cutmix", "manifold"]
    )
    def test_at_the_input_it_is_the_model_on_mixed_images(
        self, network: ResNet, images: Tensor, strategy: Strategy
    ) -> None:
        plan = strategy.sample(images.shape, seeded())
        network.eval()
        assert torch.equal(mixed_forward(network, images, plan), network(plan.mix(images)))

    @pytest.mark.parametrize("plan", [NoMix().sample((4,), seeded()), plan_at("layer2", active=False)])
    def test_an_inactive_plan_is_the_model_itself(self, network: ResNet, images: Tensor, plan: MixPlan) -> None:
        network.eval()
        assert torch.equal(mixed_forward(network, images, plan), network(images))

    def test_a_block_inside_a_block_is_found_by_its_dotted_name(self, network: ResNet, images: Tensor) -> None:
        network.eval()
        inside = mixed_forward(network, images, plan_at("layer2.1"))
        assert torch.equal(inside, mixed_forward(network, images, plan_at("layer2")))  # the last of that stage
        assert not torch.equal(inside, mixed_forward(network, images, plan_at("layer2.0")))

    def test_images_are_not_changed(self, network: ResNet, images: Tensor) -> None:
        before = images.clone()
        for layer in (None, "layer1"):
            mixed_forward(network, images, plan_at(layer))
        assert torch.equal(images, before)

    @pytest.mark.parametrize("active", [True, False])
    def test_refuses_an_unknown_block(self, active: bool) -> None:
        line = (
            r"^Sequential has no block 'layer9'; its blocks are "
            r"first, first\.0, first\.1, second, second\.0, second\.1, head, head\.0, head\.1$"
        )
        with pytest.raises(ValueError, match=line):
            mixed_forward(tiny(), torch.zeros(4, 2, 4, 4), plan_at("layer9", active=active))

    @pytest.mark.parametrize("times", [0, 2])
    def test_refuses_a_block_that_does_not_run_once(self, times: int) -> None:
        class Repeats(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.block = nn.Linear(3, 3)

            def forward(self, x: Tensor) -> Tensor:
                for _ in range(times):
                    x = self.block(x)
                return x

        model = Repeats()
        line = rf"^block 'block' ran {times} times in one forward pass; it must run once$"
        with pytest.raises(RuntimeError, match=line):
            mixed_forward(model, torch.zeros(4, 3), plan_at("block"))
        assert hooks_of(model) == []

    def test_refuses_a_block_with_more_than_one_output(self) -> None:
        model = nn.Sequential()
        model.add_module("recurrent", nn.LSTM(3, 3, batch_first=True))
        line = r"^block 'recurrent' returns tuple; only tensors can be mixed$"
        with pytest.raises(RuntimeError, match=line):
            mixed_forward(model, torch.zeros(4, 2, 3), plan_at("recurrent"))
        assert hooks_of(model) == []

    def test_leaves_the_model_as_it_was(self, network: ResNet, images: Tensor) -> None:
        before = {name: value.clone() for name, value in network.eval().state_dict().items()}
        mixed_forward(network, images, plan_at("layer1"))
        assert hooks_of(network) == []
        assert list(network.state_dict()) == list(before)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_leaves_no_hook_behind_an_exception(self) -> None:
        model = tiny()
        with pytest.raises(RuntimeError, match="channels"):
            mixed_forward(model, torch.zeros(4, 5, 4, 4), plan_at("first"))
        assert hooks_of(model) == []

    def test_other_hooks_of_the_model_stay(self) -> None:
        model = tiny()
        seen: list[Tensor] = []
        model.get_submodule("first").register_forward_hook(lambda module, args, output: seen.append(output))
        mixed_forward(model, torch.randn(4, 2, 4, 4), plan_at("first"))
        model(torch.randn(4, 2, 4, 4))
        assert len(seen) == 2


class TestGradients:
    @pytest.mark.parametrize("layer", [None, "first", "second"])
    def test_finite_differences_of_the_loss(self, layer: str | None) -> None:
        model, plan, labels = tiny(torch.float64), plan_at(layer), torch.tensor([0, 1, 2, 1])
        x = torch.randn(4, 2, 4, 4, dtype=torch.float64, generator=seeded(2), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: plan.loss(mixed_forward(model, x, plan), labels, 0.1), (x,))

    def test_finite_differences_of_the_loss_under_boxes(self) -> None:
        model, labels = tiny(torch.float64), torch.tensor([0, 1, 2, 1])
        plan = CutMix(1.0, per_sample=True).sample((4, 2, 4, 4), seeded(5))
        assert bool((plan.lam < 1).any())
        x = torch.randn(4, 2, 4, 4, dtype=torch.float64, generator=seeded(2), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: plan.loss(mixed_forward(model, x, plan), labels), (x,))

    @pytest.mark.parametrize("layer", [None, "hidden"])
    def test_both_branches_of_a_linear_network(self, layer: str | None) -> None:
        """d/dx_j of sum_i g_i W2 (lam_i W1 x_i + (1 - lam_i) W1 x_p(i)) is a sum over i = j and over p(i) = j."""
        model = nn.Sequential()
        model.add_module("hidden", nn.Linear(3, 5, bias=False, dtype=torch.float64))
        model.add_module("head", nn.Linear(5, 2, bias=False, dtype=torch.float64))
        w1, w2 = (weight.detach() for weight in model.parameters())
        plan = MixPlan(torch.tensor([0.25, 0.5, 1.0, 0.75]), torch.tensor([2, 0, 1, 3]), layer)
        x = torch.randn(4, 3, dtype=torch.float64, generator=seeded(3), requires_grad=True)
        g = torch.randn(4, 2, dtype=torch.float64, generator=seeded(4))
        mixed_forward(model, x, plan).backward(g)  # type: ignore[no-untyped-call]

        pulled = g @ w2 @ w1
        expected = torch.zeros_like(pulled)
        for i, (lam, j) in enumerate(zip(plan.lam.tolist(), plan.partner.tolist(), strict=True)):
            expected[i] += lam * pulled[i]
            expected[j] += (1 - lam) * pulled[i]
        torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-12)

    def test_the_partner_alone_gets_its_share(self) -> None:
        model, plan = tiny(torch.float64), MixPlan(torch.tensor([0.75, 1.0]), torch.tensor([1, 0]), "first")
        x = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=seeded(3), requires_grad=True)
        (gradient,) = torch.autograd.grad(mixed_forward(model, x, plan)[0].sum(), x)
        # By the chain rule, cut at the block: what arrives at h_1 is (1 - lam) of what arrives at the mix.
        hidden = model.get_submodule("first")(x)
        mix = (0.75 * hidden[:1] + 0.25 * hidden[1:]).detach().requires_grad_()
        (at_mix,) = torch.autograd.grad(model[1:](mix).sum(), mix)
        (expected,) = torch.autograd.grad(hidden, x, torch.cat([0.75 * at_mix, 0.25 * at_mix]))
        assert float(gradient[1].abs().max()) > 1e-3
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


class TestMixHooks:
    def test_many_batches_equal_mixed_forward(self) -> None:
        model, bare = tiny(), tiny()
        strategy, generator = ManifoldMixup(1.0, ["input", "first", "second"], prob=0.7), seeded()
        drawn = set()
        with MixHooks(model, ["first", "second"]) as hooks:
            for step in range(30):
                x = torch.randn(1 + step % 3, 2, 4, 4)
                plan = strategy.sample(x.shape, generator)
                assert torch.equal(hooks(x, plan), mixed_forward(bare, x, plan))
                assert hooks.mixed == (1 if plan.active and plan.layer else 0)
                assert torch.equal(model(x), bare(x))  # outside a step, the model is its own
                drawn.add((plan.layer, plan.active))
        assert len(drawn) == 6

    def test_hooks_stay_until_they_are_removed(self) -> None:
        model = tiny()
        hooks = MixHooks(model, ["first", "second"])
        hooks(torch.randn(4, 2, 4, 4), plan_at("first"))
        assert hooks_of(model) == ["first", "second"]
        hooks.remove()
        assert hooks_of(model) == []

    def test_a_module_may_take_the_place_of_the_model(self) -> None:
        """A module without ``len`` has no truth value."""

        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = tiny()

            def __len__(self) -> int:
                raise TypeError("it has none")

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                out: torch.Tensor = self.model(x)
                return out

        odd, x = Odd(), torch.randn(2, 2, 4, 4)
        plan = MixPlan(torch.tensor([0.3, 0.6]), torch.tensor([1, 0]), "model.first")
        with MixHooks(odd, ["model.first"]) as hooks:
            assert torch.equal(hooks(x, plan, odd), mixed_forward(odd, x, plan))

    def test_a_failed_step_leaves_no_plan_behind(self) -> None:
        model = tiny()
        x = torch.randn(4, 2, 4, 4)
        with MixHooks(model, ["second"]) as hooks:
            with pytest.raises(ValueError, match=r"^the plan is for a batch of 3, got 4$"):
                hooks(x, plan_at("second", batch=3))
            assert torch.equal(model(x), tiny()(x))

    def test_refuses_an_unknown_block_at_once(self) -> None:
        with pytest.raises(ValueError, match=r"^Sequential has no block 'third'; its blocks are first, "):
            MixHooks(tiny(), ["third"])


def in_place(model: nn.Module, backend: CompileCounter) -> nn.Module:
    model.compile(backend=backend)
    return model


@cache
def in_place_compiles() -> bool:
    """What torch 2.11 does not do with a module of its own: it skips the frames of torch.nn."""
    counter = CompileCounter()
    in_place(nn.Linear(1, 1), counter)(torch.ones(1, 1))
    return bool(counter.frame_count)


def wrapped(model: nn.Module, backend: CompileCounter) -> nn.Module:
    return torch.compile(model, backend=backend)  # type: ignore[return-value]


@pytest.mark.parametrize("compiled", [in_place, wrapped])
class TestCompiled:
    """Each block is one compilation; what changes from batch to batch is none."""

    @pytest.fixture(autouse=True)
    def fresh(self, compiled: Callable[[nn.Module, CompileCounter], nn.Module]) -> Iterator[None]:
        if compiled is in_place and not in_place_compiles():
            pytest.skip("this torch compiles nothing of a bare nn.Linear in place: torch.nn's frames are skipped")
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()

    def run(
        self, compiled: Callable[[nn.Module, CompileCounter], nn.Module], strategy: ManifoldMixup | CutMix, steps: int
    ) -> tuple[CompileCounter, set[tuple[str | None, bool]]]:
        """Steps of training, each compared bit for bit with the uncompiled model; and what was drawn."""
        counter, bare = CompileCounter(), tiny()
        model = compiled(tiny(), counter)
        x, labels, generator = torch.randn(4, 2, 4, 4), torch.tensor([0, 1, 2, 1]), seeded()
        drawn = set()
        with MixHooks(model, [depth for depth in strategy.depths if depth != "input"]) as hooks:
            for _ in range(steps):
                plan = strategy.sample(x.shape, generator)
                ours, theirs = hooks(x, plan), mixed_forward(bare, x, plan)
                assert torch.equal(ours, theirs)
                for logits, module in ((ours, model), (theirs, bare)):
                    module.zero_grad()
                    plan.loss(logits, labels).backward()  # type: ignore[no-untyped-call]
                for weight, expected in zip(model.parameters(), bare.parameters(), strict=True):
                    assert torch.equal(weight.grad, expected.grad)  # type: ignore[arg-type]
                drawn.add((plan.layer, plan.active))
        return counter, drawn

    @pytest.mark.parametrize("per_sample", [False, True])
    def test_manifold_is_one_graph_a_block_and_one_more(
        self, compiled: Callable[[nn.Module, CompileCounter], nn.Module], per_sample: bool
    ) -> None:
        strategy = ManifoldMixup(1.0, ["input", "first", "second"], per_sample=per_sample)
        counter, drawn = self.run(compiled, strategy, steps=20)
        assert len(drawn) == 3
        assert counter.frame_count == 3

    def test_batches_that_are_not_mixed_are_no_graphs_of_their_own(
        self, compiled: Callable[[nn.Module, CompileCounter], nn.Module]
    ) -> None:
        strategy = ManifoldMixup(1.0, ["input", "first", "second"], prob=0.5)
        counter, drawn = self.run(compiled, strategy, steps=40)
        assert len(drawn) == 6
        assert counter.frame_count == 3

    def test_cutmix_is_one_graph(self, compiled: Callable[[nn.Module, CompileCounter], nn.Module]) -> None:
        counter, drawn = self.run(compiled, CutMix(1.0, prob=0.5), steps=10)
        assert len(drawn) == 2
        assert counter.frame_count == 1
