"""Regression: one number per sample, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from vicinal.tasks.metric import Metric
from vicinal.tasks.task import Bounds, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vicinal.data.samples import RunData
    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import LossSettings

PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Of ridge regression, which is shown beside trainings on tables."""


@dataclass(frozen=True)
class ErrorMetric(Metric):
    """A number made of the moments of errors and targets, as scikit-learn's; of several outputs, their mean."""

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the sums of |e|, e^2, y and y^2 over the batch, with the error e of the target y; (4, D)."""
        import torch

        y = targets.to(dtype)
        error = outputs.to(dtype) - y
        y = self.centred(y)
        return torch.stack([error.abs(), error.square(), y, y.square()]).sum(dim=1)

    def centred(self, targets: Tensor) -> Tensor:
        """Return the targets (B, D) as their moments are taken."""
        return targets

    def value(self, totals: Tensor, count: int) -> Tensor:
        return self.per_output(totals / count).mean()

    def per_output(self, means: Tensor) -> Tensor:
        """Return the metric of each output, (D,), from the means of the four moments, (4, D)."""
        raise NotImplementedError


class RootMeanSquaredError(ErrorMetric):
    def per_output(self, means: Tensor) -> Tensor:
        return means[1].sqrt()


class MeanAbsoluteError(ErrorMetric):
    def per_output(self, means: Tensor) -> Tensor:
        return means[0]


@dataclass(frozen=True)
class Determination(ErrorMetric):
    """R^2 = 1 - squared error / variance of the targets; of targets that are all the same, 1 if met, else 0.

    origin: about which moments are taken, (D,), near the mean of the targets, so that a large mean leaves the digits of
        a small variance; empty for 0.
    """

    origin: tuple[float, ...] = field(default=(), kw_only=True)

    def centred(self, targets: Tensor) -> Tensor:
        return targets - targets.new_tensor(self.origin) if self.origin else targets

    def per_output(self, means: Tensor) -> Tensor:
        import torch

        _, squared, y, y2 = means
        variance = y2 - y.square()
        constant = variance <= 1e-12 * y2
        met = (squared == 0).to(squared.dtype)
        return torch.where(constant, met, 1 - squared / variance.masked_fill(constant, 1.0))


class RegressionLoss(NamedTuple):
    """The mean error between outputs (B, D) and mixed targets, both in standard deviations of the training targets.

    The targets are mixed, and not their losses, as in C-Mixup (arXiv 2210.05775, equation 3). For the squared error
    that is the same up to a constant.

    kind: "mse", "mae", or "huber" with delta 1.
    """

    kind: str
    task: Regression

    def __call__(self, plan: MixPlan, outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        import torch.nn.functional as F

        functions: dict[str, Any] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}
        mixed = plan.mix_targets(
            self.task.standardised(targets)
        )  # in this order, small beside a large mean stays exact
        losses: Tensor = functions[self.kind](outputs.float(), mixed, reduction="none").mean(dim=1)
        return losses.mean() if weight is None else (weight * losses).mean()


@dataclass(frozen=True)
class Regression(Task):
    """Numbers, (N, D) float32. The network returns them in standard deviations from the mean of the training targets.

    Attributes:
        mean: (D,), of the training targets, as float32 has it; empty before :meth:`bind`.
        std: (D,), the same; 1 where all are equal.
    """

    losses = ("mse", "mae", "huber")
    mean: tuple[float, ...] = field(default=(), kw_only=True)
    std: tuple[float, ...] = field(default=(), kw_only=True)

    def bind(self, data: RunData, uneven: bool) -> Self:
        """Take the scale of the training targets, and their unit for the metrics that have one."""
        targets = data.train.targets.double()
        std = targets.std(dim=0, correction=0).masked_fill(targets.amax(dim=0) == targets.amin(dim=0), 1.0)
        mean = tuple(targets.mean(dim=0).float().tolist())  # so that it is the same wherever it is taken off or put on
        metrics = tuple(
            replace(metric, origin=mean) if isinstance(metric, Determination) else replace(metric, unit=data.unit)
            for metric in self.metrics
        )
        return replace(self, metrics=metrics, mean=mean, std=tuple(std.tolist()))

    def baseline(self, data: RunData) -> dict[str, Any] | None:
        """Fit scikit-learn's ridge regression to the training rows of a table; its penalty is cross-validated."""
        import torch

        from vicinal.data.inputs import Table

        if not isinstance(data.kind, Table):
            return None
        from sklearn.linear_model import RidgeCV

        x, y = data.normalised(data.train.gathered()), self.standardised(data.train.targets)
        model = RidgeCV(alphas=PENALTIES).fit(x.double().numpy(), y.double().numpy())
        predicted = model.predict(data.normalised(data.test.gathered()).double().numpy())
        evaluator = self.evaluator(torch.device("cpu"))
        evaluator.update(self.read(torch.from_numpy(predicted).view(len(predicted), -1)), data.test.targets)
        return {"name": "ridge regression", "test": evaluator.compute()}

    def refuse(self, data: RunData, inputs: Sequence[int]) -> None:
        for name, part in data.parts.items():
            targets = part.targets
            if not (targets.is_floating_point() and targets.dim() == 2 and targets.shape[1] == len(data.class_names)):
                wanted = f"(N, {len(data.class_names)}) floats"
                raise ValueError(
                    f"task must fit the targets: regression needs {wanted}, got {tuple(targets.shape)} {name}"
                )
            if not targets.isfinite().all():
                raise ValueError(f"task must fit the targets: regression needs finite numbers in {name}, got others")

    def standardised(self, targets: Tensor) -> Tensor:
        return (targets - targets.new_tensor(self.mean)) / targets.new_tensor(self.std)

    def compared(self, targets: Tensor) -> Tensor:
        """Return the targets in standard deviations of the training targets."""
        return self.standardised(targets)

    def loss(
        self, settings: LossSettings, counts: Tensor | None, epoch: int, model: nn.Module | None = None
    ) -> RegressionLoss:
        return RegressionLoss("mse" if settings.loss == "auto" else settings.loss, self)

    def score(self, plan: MixPlan, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the absolute error of each mixed sample, (B,), in the unit of the targets."""
        predicted = self.read(outputs)
        return (predicted - plan.mix_targets(targets.to(predicted.dtype))).abs().mean(dim=1).float()

    def bounds(self, plan: MixPlan, targets: Tensor, classes: int, loss: Any) -> Bounds:
        import torch

        same = plan.alike(targets).to(targets.dtype)
        unknown = torch.full_like(same, torch.nan)
        return Bounds(same, entropy=unknown, floor=torch.zeros_like(same), ceiling=unknown)

    def caption(self, members: Sequence[tuple[float, Any]], class_names: Sequence[str]) -> str:
        """Return such as ``0.73 x 151 + 0.27 x 75``."""
        values = [" ".join(f"{value:.4g}" for value in target) for _, target in members]
        if len(values) == 1:
            return values[0]
        return " + ".join(f"{weight:.2f} x {value}" for (weight, _), value in zip(members, values, strict=True))

    def read(self, outputs: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return the predictions (B, D) in the unit of the targets, float64 where the device has it.

        Beside a large mean, float32 would round off what the network has found.
        """
        outputs = outputs.float() if outputs.device.type == "mps" else outputs.double()
        return outputs * outputs.new_tensor(self.std) + outputs.new_tensor(self.mean)


REGRESSION = Regression(
    name="regression",
    metrics=(
        RootMeanSquaredError("rmse", "root mean squared error", "", "lower", short="RMSE"),
        MeanAbsoluteError("mae", "mean absolute error", "", "lower", short="MAE"),
        Determination("r2", "coefficient of determination", "", "higher", short="R²"),
    ),
    selection="rmse",
    score_key="mae",
)
