"""A real offline sweep, read back with W&B's own reader and compared to the run's own record."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix
from torchmetrics.classification import MulticlassRecall

from vicinal import build
from vicinal.runs.environment import code
from vicinal.runs.predictions import Predictions
from vicinal.training.rng_streams import RngStreams

TRAIN = Path(__file__).parents[3] / "train.py"
STRATEGIES = ("none", "input", "manifold", "cutmix")
SETTINGS = ("trainer.epochs=2", "trainer.threads=1", "dataset.train_size=200", "mixup.alpha=1", "wandb.images=5")
FAKE_KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The output folder of a sweep over the strategies, with a W&B key in its environment."""
    output = tmp_path_factory.mktemp("sweep")
    words = [
        f"mixup={','.join(STRATEGIES)}",
        *SETTINGS,
        "wandb.mode=offline",
        "wandb.tags=[a,b]",
        f"output_dir={output}",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"WANDB_API_KEY": FAKE_KEY, "WANDB_CONFIG_DIR": str(output), "WANDB_CACHE_DIR": str(output)}
    done = subprocess.run([sys.executable, TRAIN, *words, "-m"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def runs(sweep, read_offline_run):
    """{strategy: (folder, result.json, rows of metrics.jsonl, what W&B has)}."""
    found = {}
    for folder in (sweep / "runs").iterdir():
        result = json.loads((folder / "result.json").read_text())
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found[result["choices"]["mixup"]] = (folder, result, rows, read_offline_run(folder))
    return found


def test_n_jobs_leave_n_runs(runs):
    assert sorted(runs) == sorted(STRATEGIES)
    assert len({offline.id for *_, offline in runs.values()}) == len(STRATEGIES)
    for _, result, _, offline in runs.values():
        about = {"name": f"{result['name']}-s0", "group": offline.group}
        assert result["wandb"] == {"mode": "offline", "id": offline.id, **about}
        assert offline.exit_code == 0


def test_history_is_metrics_jsonl(runs):
    for _, result, rows, offline in runs.values():
        assert offline.history == rows
        assert len(rows) == result["epochs"] == 2
        clock = [(metric.get("name"), metric.get("glob_name"), metric.get("step_metric")) for metric in offline.metrics]
        assert (None, "*", "epoch") in clock


def test_config_is_the_resolved_config_with_choices_commit_and_identity(runs):
    for _, result, _, offline in runs.values():
        assert "${" not in json.dumps(offline.config)
        assert {name: offline.config[name] for name in result["config"]} == result["config"]
        assert offline.config["choices"] == result["choices"]
        assert (offline.config["run_id"], offline.config["cell_id"]) == (result["run_id"], result["cell_id"])
        assert offline.config.get("git_commit") == code()[0]


def test_name_group_and_tags(runs, sweep):
    [folder] = (sweep / "sweeps").iterdir()
    for _, result, _, offline in runs.values():
        assert (offline.name, offline.group) == (f"{result['name']}-s0", folder.name)
        assert (offline.tags, offline.job_type, offline.project) == (("a", "b"), "train", "vicinal")


def test_summary_has_the_finals(runs):
    for _, result, _, offline in runs.values():
        expected = {
            f"test/{which}/{name}": value for which, scores in result["test"].items() for name, value in scores.items()
        }
        expected |= {f"val/{name}": value for name, value in result["val"].items()}
        expected |= {"best_epoch": result["best_epoch"], "images_per_second": result["images_per_second"]}
        assert {name: offline.summary[name] for name in expected} == expected


def test_the_panel_shows_the_first_batches_as_they_were_mixed(runs, compose):
    for strategy, (*_, offline) in runs.items():
        experiment = compose(f"mixup={strategy}", *SETTINGS)
        data, streams = build.load_data(experiment), RngStreams(0)
        batches = build.make_loaders(experiment, data).train.epoch(streams.order, streams.augmentation)
        expected, captions = [], []
        for (images, labels), count in zip(batches, (2, 1, 1, 1), strict=True):  # 5 images of 4 batches
            plan = experiment.strategy.sample(images.shape, streams.mixing)
            entering = images if plan.layer else plan.mix(images)
            parts = [part[:count] for part in (images, images[plan.partner], entering)]
            pixels = [part * torch.tensor(data.std) + torch.tensor(data.mean) for part in parts]
            own = torch.ones(count, 1, 8, 8) * plan.lam[:count].view(-1, 1, 1, 1)
            if strategy == "cutmix":
                top, bottom, left, right = (side[0] for side in plan.mask.sides)
                own = torch.ones(count, 1, 8, 8)
                own[:, :, top:bottom, left:right] = 0
                assert own.mean() == pytest.approx(plan.lam[0].item())
            expected.append(torch.cat([pixels[0], pixels[1], own, pixels[2]], dim=3) * 255)
            names = [str(label) for label in labels.tolist()]
            for lam, own, other in zip(plan.lam[:count].tolist(), names, plan.partner.tolist(), strict=False):
                text = f"{lam:.2f} {own} + {1 - lam:.2f} {names[other]}" if strategy != "none" else own
                captions.append(f"{text} at {plan.layer}" if plan.layer else text)
        assert offline.captions["mixed_images"] == captions
        shown = np.stack([np.asarray(Image.open(file)) for file in offline.images["mixed_images"]])
        assert torch.equal(torch.from_numpy(shown)[:, None], torch.cat(expected).round().to(torch.uint8))


def test_the_tables_are_those_of_the_last_weights_on_the_test_images(runs, compose):
    """Predicted again from the checkpoint, and counted by torchmetrics and scikit-learn."""
    for strategy, (folder, result, _, offline) in runs.items():
        experiment = compose(f"mixup={strategy}", *SETTINGS)
        model = build.make_model(experiment)
        model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
        model.eval()
        images, labels = zip(*build.make_loaders(experiment, build.load_data(experiment)).test.batches(), strict=True)
        with torch.inference_mode(), experiment.hardware.autocast():
            probabilities = torch.cat([model(batch) for batch in images]).float().softmax(dim=1)
        labels = torch.cat(labels)
        stored = Predictions.load(folder / "predictions.npz")
        assert stored.class_names == tuple("0123456789")
        assert np.array_equal(stored.labels, labels)
        assert np.array_equal(stored.predicted, probabilities.argmax(dim=1))
        assert np.array_equal(stored.confidence, probabilities.amax(dim=1))

        table = offline.tables["test/confusion_table"]
        counts = confusion_matrix(labels, probabilities.argmax(dim=1))
        assert [row["nPredictions"] for row in table] == counts.ravel().tolist()
        assert [(row["Actual"], row["Predicted"]) for row in table[:11]] == [
            *(("0", name) for name in stored.class_names),
            ("1", "0"),
        ]
        recalls = MulticlassRecall(10, average=None)(probabilities, labels)
        table = offline.tables["test/class_accuracy_table"]
        assert [row["class"] for row in table] == list(stored.class_names)
        assert [row["accuracy"] for row in table] == pytest.approx(recalls.tolist())
        diagram = stored.reliability()
        error = np.average(np.abs(diagram.confidence - diagram.accuracy), weights=diagram.count)
        assert error == pytest.approx(result["test"]["last"]["ece"], rel=1e-5)
        diagram = stored.reliability()
        rows = [row for row in offline.tables["test/reliability_table"] if row["lineKey"] == "this model"]
        assert [row["step"] for row in rows] == pytest.approx(diagram.confidence.tolist())
        assert [row["lineVal"] for row in rows] == pytest.approx(diagram.accuracy.tolist())


def test_program_and_system_metrics_are_those_of_the_training(runs, sweep):
    """Not those of W&B's own process, which has a third of its memory, being without torch."""
    stats = [sample for *_, offline in runs.values() for sample in offline.stats]
    assert stats  # a run of less than a second may have none
    assert all(sample["proc.memory.rssMB"] > 300 for sample in stats)
    for *_, offline in runs.values():
        assert offline.environment["program"] == str(TRAIN)
        assert offline.environment["args"][-2:] == [f"output_dir={sweep}", "-m"]


def test_the_packages_are_those_that_are_installed(runs):
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    listed = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    for *_, offline in runs.values():
        packages = (offline.folder / "files/requirements.txt").read_text().splitlines()
        assert set(packages) == set(listed.stdout.split())
        assert any(package.startswith("torch==") for package in packages)


def test_the_key_is_in_no_file(sweep):
    files = [file for file in sweep.rglob("*") if file.is_file()]
    assert len(files) > 40
    assert [file for file in files if FAKE_KEY.encode() in file.read_bytes()] == []
