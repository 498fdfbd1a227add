"""What tests/composed.py remembers is what Hydra composes, and is remembered."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from vicinal.experiment import Experiment


def test_the_same_words_are_composed_once_for_any_output_folder(
    compose: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = []
    original = ConfigLoaderImpl._compose_config_from_defaults_list

    def counted(self: ConfigLoaderImpl, *args: object, **keys: object) -> object:
        composed.append(args)
        return original(self, *args, **keys)

    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", counted)
    words = ("mixup=cutmix", "mixup.alpha=0.7123", "tracker=none")
    first, second = (compose(*words, f"output_dir={tmp_path / name}") for name in ("one", "two"))
    assert len(composed) == 1
    assert first.cell_id == second.cell_id
    assert repr(first.config).replace(str(tmp_path / "one"), str(tmp_path / "two")) == repr(second.config)
    assert second.config["output_dir"] == str(tmp_path / "two")
    second.config["mixup"]["alpha"] = 9
    assert compose(*words, f"output_dir={tmp_path / 'two'}").config["mixup"]["alpha"] == 0.7123
