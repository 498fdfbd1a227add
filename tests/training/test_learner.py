"""A training step against one written by hand, and that it never waits for the device."""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from vicinal.config.schema import TrainerConfig
from vicinal.data import Pending
from vicinal.errors import UserError
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix, Strategy, mixed_forward
from vicinal.mixing.context import Context
from vicinal.mixing.features import NoisyFeatureMixup, PatchUp
from vicinal.mixing.fields import SmoothMix
from vicinal.mixing.forward import MixHooks
from vicinal.mixing.pasting import ResizeMix, Ricap
from vicinal.mixing.plan import SecondHalf
from vicinal.mixing.saliency import PuzzleMix, SaliencyMix
from vicinal.models.preact_resnet import PreActResNet
from vicinal.training.hardware import Hardware
from vicinal.training.learner import Learner
from vicinal.training.mixing_stats import MixingStats
from vicinal.training.schedules import constant, multistep
from vicinal.training.train_metrics import TrainMetrics

CPU, META = torch.device("cpu"), torch.device("meta")
LR, MOMENTUM, DECAY = 0.1, 0.9, 0.01
HEAVY_BALL = partial(SGD, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
STRATEGIES: dict[str, Strategy] = {
    "none": NoMix(),
    "input": InputMixup(1.0),
    "manifold": ManifoldMixup(1.0, ["input", "block1", "block2"]),
    "cutmix": CutMix(1.0),
    "per-sample": CutMix(1.0, prob=0.5, per_sample=True),
}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def make_model() -> nn.Sequential:
    block1 = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    block2 = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return nn.Sequential(OrderedDict(block1=block1, block2=block2, head=head))


def make_learner(
    model: nn.Module,
    strategy: Strategy,
    device: torch.device = CPU,
    optimizer: Callable[..., torch.optim.Optimizer] = HEAVY_BALL,
    scheduler: Callable[..., Any] = constant,
    **settings: Any,
) -> Learner:
    config = TrainerConfig(epochs=4, batch_size=7, eval_batch_size=9, **{"channels_last": False, **settings})
    hardware = Hardware(device, "fp32", 1, settings.get("compile", False))
    return Learner(model, optimizer, scheduler, strategy, config, hardware, steps_per_epoch=1)


def batches(strategy: Strategy, count: int) -> Iterator[tuple[Tensor, Tensor, MixPlan]]:
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        images = torch.randn(7, 3, 8, 8, generator=generator)
        yield images, torch.randint(5, (7,), generator=generator), strategy.sample(images.shape, generator)


def forward_by_hand(model: nn.Sequential, images: Tensor, plan: MixPlan) -> Tensor:
    x = plan.mix(images) if plan.layer is None else images
    for name, block in model.named_children():
        x = block(x)
        if name == plan.layer:
            x = plan.mix(x)
    return x


def states_equal(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def ruined(rate: complex, optimizer: torch.optim.Optimizer, **_: int) -> LambdaLR:
    """A schedule of a user whose second rate is no finite number."""
    return LambdaLR(optimizer, lambda step: rate if step else 1.0)


@pytest.mark.parametrize("rate", [math.nan, math.inf, (-0.5) ** 0.9])
def test_a_schedule_without_finite_rates_is_named(rate: complex) -> None:
    learner = make_learner(make_model(), NoMix(), scheduler=partial(ruined, rate))

    def train() -> None:
        for images, labels, plan in batches(NoMix(), 3):
            if not learner.step(images, labels, plan).loss.isfinite():
                learner.raise_diverged("since step 3")

    message = r"^scheduler: the learning rate must be a finite number, and the schedule made it "
    with pytest.raises(UserError, match=message):
        train()
    with pytest.raises(UserError, match=message):
        learner.lr()


@every_strategy
@pytest.mark.parametrize("channels_last", [False, True])
def test_steps_by_hand(strategy: Strategy, channels_last: bool) -> None:
    """Three steps of SGD, the rate of the second and third a tenth and a hundredth: equal to the last bit."""
    torch.manual_seed(0)
    model = make_model()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    own = copy.deepcopy(model).to(memory_format=layout)
    momenta: list[Tensor] = []
    learner = make_learner(
        model, strategy, scheduler=partial(multistep, milestones=[1, 2]), channels_last=channels_last
    )
    layers = set()
    for step, (images, labels, plan) in enumerate(batches(strategy, 3)):
        layers.add(plan.layer)
        assert learner.lr() == pytest.approx(LR * 0.1**step, rel=1e-12)
        rate = learner.lr()
        loss, logits, *_ = learner.step(images, labels, plan)

        own_logits = forward_by_hand(own, images, plan)
        own_loss = plan.loss(own_logits, labels)
        gradients = torch.autograd.grad(own_loss, list(own.parameters()))
        with torch.no_grad():
            decayed = [g.add(p, alpha=DECAY) for g, p in zip(gradients, own.parameters(), strict=True)]
            if step == 0:
                momenta = [g.clone() for g in decayed]
            else:
                momenta = [m.mul(MOMENTUM).add(g) for m, g in zip(momenta, decayed, strict=True)]
            for parameter, momentum in zip(own.parameters(), momenta, strict=True):
                parameter.add_(momentum, alpha=-rate)
        assert torch.equal(loss, own_loss.detach())
        assert torch.equal(logits, own_logits.detach())
        assert not loss.requires_grad
        assert not logits.requires_grad
        assert states_equal(model, own)
    if isinstance(strategy, ManifoldMixup):
        assert len(layers) > 1  # else the test would be that of input mixup


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last(channels_last: bool) -> None:
    learner = make_learner(make_model(), NoMix(), channels_last=channels_last)
    weight = learner.model.get_parameter("block1.0.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_clipping_scales_the_gradient_to_the_limit() -> None:
    torch.manual_seed(0)
    free, clipped, loose = (make_model() for _ in range(3))
    clipped.load_state_dict(free.state_dict())
    loose.load_state_dict(free.state_dict())
    batch = next(batches(NoMix(), 1))
    make_learner(free, NoMix()).step(*batch)
    make_learner(clipped, NoMix(), clip_grad_norm=0.01).step(*batch)
    make_learner(loose, NoMix(), clip_grad_norm=1e6).step(*batch)
    full = nn.utils.parameters_to_vector(p.grad for p in free.parameters())
    cut = nn.utils.parameters_to_vector(p.grad for p in clipped.parameters())
    assert full.norm() > 0.1
    torch.testing.assert_close(cut, full * (0.01 / full.norm()), rtol=1e-4, atol=1e-9)
    assert states_equal(free, loose)
    assert not states_equal(free, clipped)


@every_strategy
def test_label_smoothing_counts_once(strategy: Strategy) -> None:
    smoothing, classes = 0.3, 5
    learner = make_learner(make_model(), strategy, label_smoothing=smoothing)
    for images, labels, plan in batches(strategy, 3):
        loss, logits, *_ = learner.step(images, labels, plan)
        targets = plan.targets(labels, classes) * (1 - smoothing) + smoothing / classes
        expected = -(targets * logits.log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_averaged_weights() -> None:
    """After steps 1, 2, 3: d^2 w1 + d (1 - d) w2 + (1 - d) w3, batch norm's running statistics included."""
    decay = 0.9
    torch.manual_seed(0)
    model = make_model()
    learner = make_learner(model, InputMixup(1.0), ema_decay=decay)
    snapshots = []
    for batch in batches(InputMixup(1.0), 3):
        learner.step(*batch)
        snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
    assert learner.eval_model is not model
    averaged = learner.eval_model.state_dict()
    assert averaged.keys() == snapshots[0].keys()
    for name, value in averaged.items():
        first, second, third = (snapshot[name] for snapshot in snapshots)
        if value.is_floating_point():
            expected = decay**2 * first + decay * (1 - decay) * second + (1 - decay) * third
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
            assert not torch.equal(value, third)
    statistics = averaged["block1.1.running_mean"]
    assert not torch.equal(statistics, torch.zeros_like(statistics))


def test_averaged_weights_are_those_of_torch() -> None:
    torch.manual_seed(0)
    model = make_model()
    learner = make_learner(model, InputMixup(1.0), ema_decay=0.7)
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    for batch in batches(InputMixup(1.0), 4):
        learner.step(*batch)
        oracle.update_parameters(model)
        ours, theirs = learner.eval_model.state_dict(), oracle.module.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours if ours[name].is_floating_point())
    assert learner.eval_model.get_buffer("block1.1.num_batches_tracked") == 4


def test_averaging_does_not_change_the_training() -> None:
    torch.manual_seed(0)
    plain = make_model()
    averaged = copy.deepcopy(plain)
    learners = [make_learner(plain, NoMix()), make_learner(averaged, NoMix(), ema_decay=0.5)]
    for batch in batches(NoMix(), 3):
        for learner in learners:
            learner.step(*batch)
    assert states_equal(plain, averaged)
    assert learners[0].eval_model is plain


class NoWaiting(TorchDispatchMode):
    """Raises where a kernel launch would have to wait: a value read, or a copy between devices that blocks."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        on_device = [arg for arg in args if isinstance(arg, Tensor) and arg.device == self.device]
        if name in ("_local_scalar_dense", "equal", "nonzero", "masked_select", "unique") and on_device:
            raise AssertionError(f"{name} waits for the device")
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_", "_copy_from") and isinstance(result, Tensor):
            source = args[1] if name == "copy_" else args[0]
            blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            if blocking and source.device != result.device:
                raise AssertionError(f"a copy from {source.device} to {result.device} waits for the device")
        return result


@contextmanager
def cuda_without_waiting() -> Iterator[None]:
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(Adam, lr=0.1),
    "adamw": partial(AdamW, lr=0.1),
}
EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {"clip_grad_norm": 1.0, "ema_decay": 0.9, "label_smoothing": 0.1, "channels_last": True},
}


def train_three_steps(
    strategy: Strategy, learner: Learner, device: torch.device, forbid: Callable[[], AbstractContextManager[Any]]
) -> None:
    train_metrics = TrainMetrics(device)
    mixing_stats = MixingStats(strategy.depths, torch.ones(5), learner.objective, device)
    generator = torch.Generator().manual_seed(0)
    images = torch.ones(8, 3, 8, 8, device=device)
    labels = torch.zeros(8, dtype=torch.int64, device=device)
    for _ in range(3):
        plan = strategy.sample(images.shape, generator)
        with forbid():
            mixing_stats.add(plan, labels, images.shape)
            plan = plan.to(device)
            step = learner.step(images, labels, plan)
            train_metrics.add(step.loss, step.score, len(step.score))


@every_strategy
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
def test_a_step_never_waits_for_the_device(
    strategy: Strategy,
    optimizer: Callable[..., torch.optim.Optimizer],
    extras: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the device "meta", whose tensors have no values to be asked for."""
    monkeypatch.setattr("vicinal.training.mixing_stats.FOLDED_BATCHES", 1)  # each step counts what it has mixed
    with META:
        model = make_model()
    learner = make_learner(model, strategy, META, optimizer, **extras)
    train_three_steps(strategy, learner, META, partial(NoWaiting, META))


@pytest.mark.gpu
@every_strategy
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
def test_a_step_never_waits_for_the_gpu(
    strategy: Strategy,
    optimizer: Callable[..., torch.optim.Optimizer],
    extras: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vicinal.training.mixing_stats.FOLDED_BATCHES", 1)
    device = torch.device("cuda", 0)
    learner = make_learner(make_model(), strategy, device, optimizer, **extras)
    for _ in range(2):  # the first time, libraries are set up
        train_three_steps(strategy, learner, device, cuda_without_waiting)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_fused_optimizer_is_the_same(make: Callable[..., torch.optim.Optimizer]) -> None:
    """But for the last bits; conf/optimizer/ asks for it."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1000, generator=generator)
    weights = [start.clone().requires_grad_() for _ in range(2)]
    optimizers = [make([weight], fused=fused) for weight, fused in zip(weights, (False, True), strict=True)]
    for _ in range(10):
        gradient = torch.randn(1000, generator=generator)
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)
    assert (weights[1] - start).abs().mean() > 0.1


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: torch.zeros(()).to(x.device),
        lambda x: x.copy_(torch.zeros(3)),
    ],
)
def test_the_watchman_sees(wait: Callable[[Tensor], Any]) -> None:
    with pytest.raises((AssertionError, RuntimeError)), NoWaiting(META):
        wait(torch.ones(3, device=META))


COMPILED: dict[str, Strategy] = {
    **STRATEGIES,
    "often unmixed": InputMixup(1.0, prob=0.5),
    "six blocks": ManifoldMixup(1.0, ["input", "block1", "block2", "block1.0", "block1.1", "block2.0"], prob=0.7),
}


def on_a_gpu(strategy: Strategy) -> bool:
    return make_learner(make_model(), strategy, META).mixes_as_made


def test_a_batch_that_a_strategy_looks_at_is_made_once_and_then_mixed() -> None:
    assert SaliencyMix(1.0).needs & {"images", "saliency"}
    assert not on_a_gpu(SaliencyMix(1.0))
    assert not on_a_gpu(PuzzleMix(1.0))


@pytest.mark.parametrize(
    ("strategy", "mixed"),
    [
        (NoMix(), False),
        (InputMixup(1.0), True),
        (CutMix(1.0, per_sample=True), True),
        (InputMixup(1.0, clean_weight=1.0), False),  # needs the unmixed batch as well
        (InputMixup(1.0, members=3), False),
        (CutMix(1.0, partner="blank"), False),
        (ManifoldMixup(1.0, ["block1"]), False),
        (SmoothMix(), False),
    ],
)
def test_a_batch_that_is_not_made_yet_is_made_mixed_where_that_is_all_of_the_mixing(
    strategy: Strategy, mixed: bool
) -> None:
    torch.manual_seed(0)
    model = make_model()
    learners = [make_learner(each, strategy) for each in (model, copy.deepcopy(model))]
    assert not learners[0].mixes_as_made
    learners[0].mixes_as_made = on_a_gpu(strategy)
    for images, labels, plan in batches(strategy, 4):
        asked = []

        def make(
            partner: Tensor | None = None, blend: Any = None, images: Tensor = images, asked: list[bool] = asked
        ) -> Tensor:
            asked.append(partner is not None)
            return images.clone() if partner is None else blend.mix(images, images[partner])

        ours = learners[0].step(Pending(images.shape, make), labels, plan)
        theirs = learners[1].step(images, labels, plan)
        assert asked == [mixed]
        assert ours.plan is plan
        assert torch.equal(ours.loss, theirs.loss)
        assert torch.equal(ours.outputs, theirs.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_training_is_the_same(name: str) -> None:
    """Loss and logits of every step, the mixing inside the network included; a graph a block and no other."""
    from torch._dynamo.utils import counters

    strategy = COMPILED[name]
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    eager = make_model()
    compiled = copy.deepcopy(eager)
    learners = [make_learner(eager, strategy), make_learner(compiled, strategy, compile=True)]
    graphs = set()
    for images, labels, plan in batches(strategy, 40 if "blocks" in name else 8):
        graphs.add(plan.layer if plan.active else None)
        unmixed = copy.deepcopy(eager)(images).detach()
        (loss, logits, *_), (compiled_loss, compiled_logits, *_) = (
            learner.step(images, labels, plan) for learner in learners
        )
        torch.testing.assert_close(compiled_logits, logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(compiled_loss, loss, rtol=1e-3, atol=1e-4)
        assert torch.equal(logits, unmixed) is not plan.active
        if plan.active and plan.lam[0] < 0.95:
            assert (compiled_logits - unmixed).abs().max() > 10 * (compiled_logits - logits).abs().max()
    assert (len(graphs) > 1) is (len(strategy.depths) > 1)
    assert counters["stats"]["unique_graphs"] == len(graphs)
    # The odd batch at the end of an epoch, and that of an evaluation, are not compiled for.
    torch.testing.assert_close(*(learner.step(images[:3], labels[:3], few(plan))[0] for learner in learners))
    sample = torch.randn(9, 3, 8, 8)
    with torch.inference_mode():
        for size in (9, 9, 4):
            outputs = []
            for learner in learners:
                learner.eval_model.eval()
                outputs.append(learner.eval_forward(sample[:size]))
            torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == len(graphs) + 1
    assert not counters["graph_break"]
    for parameter, other in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other, parameter, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("together", [False, True])
def test_full_batches_are_compiled_for_one_pass_and_for_two(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    sizes = []

    def counted(model: nn.Module, **options: Any) -> Callable[[Tensor], Any]:
        def call(x: Tensor) -> Any:
            sizes.append(len(x))
            return model(x)

        return call

    monkeypatch.setattr("torch.compile", counted)
    strategy = InputMixup(20.0, clean_weight=1.0, together=together)
    learner = make_learner(make_model(), strategy, compile=True)
    for images, labels, plan in batches(strategy, 2):
        learner.step(images, labels, plan)
    images, labels, _ = next(batches(strategy, 1))
    learner.step(images[:3], labels[:3], strategy.sample(images[:3].shape, torch.Generator().manual_seed(0)))
    assert sizes == ([14, 14] if together else [7] * 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # by torch's own look between two graphs
@pytest.mark.parametrize(
    ("strategy", "graphs"),
    [
        (CutMix(1.0, depth="layer1"), 1),
        (ResizeMix(depth="layer1"), 3),
        (Ricap(1.0, depth="layer1"), 3),
        (NoisyFeatureMixup(1.0, ["layer1"]), 3),
        (PatchUp(1.0, ["layer1"]), 3),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("together", [False, True])
def test_numbers_on_the_host_take_no_graph_each(strategy: Strategy, graphs: int, together: bool) -> None:
    """A plan with numbers that are not in tensors is carried out between the graphs, to the bit."""
    torch._dynamo.reset()
    counter = CompileCounter()
    model = PreActResNet(3, 8, 5, width=4)
    compiled = torch.compile(model, dynamic=False, backend=counter)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(8, 3, 8, 8, generator=generator)
        plan = strategy.sample(x.shape, generator, Context(shapes={"layer1": (4, 8, 8)}))
        if together:
            x, plan = torch.cat([x, x]), SecondHalf.of(plan)
        with MixHooks(model, ["layer1"], compiled=True) as hooks:
            ours = hooks(x, plan, compiled)
        seen = plan.settled().lam
        assert torch.equal(ours, mixed_forward(model, x, plan))
        assert torch.equal(plan.settled().lam, seen)
    torch._dynamo.reset()
    assert counter.frame_count == graphs


@pytest.mark.parametrize("works", [True, False])
def test_a_model_that_torch_does_not_compile_is_known(monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    """Torch may skip code without a word; a training says so after its first epoch (test_loop.py)."""
    if not works:
        monkeypatch.setattr("torch.compile", lambda model, **options: model)
    torch._dynamo.reset()
    learner = make_learner(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5)), NoMix(), compile=True)
    assert learner.stayed_eager
    learner.step(*next(batches(NoMix(), 1)))
    assert learner.graphs == int(works)
    assert learner.stayed_eager is not works
    assert not make_learner(make_model(), NoMix()).stayed_eager


@pytest.mark.parametrize(("before", "after"), [(8, 8), (2, 7)])
def test_the_process_may_compile_as_many_graphs_as_before_or_more(before: int, after: int) -> None:
    """Torch's limit belongs to all that is compiled in the process: five blocks, all other batches, evaluation."""
    strategy = ManifoldMixup(1.0, ["block1", "block2", "block1.0", "block1.1", "block2.0"])
    with torch._dynamo.config.patch(recompile_limit=before):
        make_learner(make_model(), NoMix(), compile=True)
        assert torch._dynamo.config.recompile_limit == before
        make_learner(make_model(), strategy, compile=True)
        assert torch._dynamo.config.recompile_limit == after


def test_a_first_step_that_overflows_in_fp16_is_skipped_without_a_warning() -> None:
    torch.manual_seed(0)
    model = make_model()
    learner = Learner(
        model, partial(SGD, lr=LR), constant, NoMix(), TrainerConfig(epochs=1), Hardware(CPU, "fp16", 1), 1
    )
    learner.scaler.load_state_dict({**learner.scaler.state_dict(), "scale": 2.0**100})
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    learner.step(*next(batches(NoMix(), 1)))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert learner.scaler.get_scale() == 2.0**99


def few(plan: MixPlan) -> MixPlan:
    """A plan for three samples with the depth of another."""
    return MixPlan(plan.lam[:3], torch.tensor([2, 0, 1]), plan.layer, active=plan.active)
