"""Folders of clips: who is in which part, what identifies a run, and a line for each that cannot be used."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vicinal.data import contents
from vicinal.data.inputs import INPUTS, Waveforms
from vicinal.data.speech import fsdd, speech_commands, wavfolder
from vicinal.experiment import Experiment
from vicinal.runs.mixed_sounds import encode

REPO = Path(__file__).parents[2]
Train = Callable[..., tuple[int, str, str]]
SPEAKERS = ("jackson", "theo")
TINY = ("trainer.epochs=1", "model.widths=[2]", "model.mels=8", "dataset.val_size=0", "scheduler=constant")


def clip_of(file: Path, seed: int = 0, length: int = 400, rate: int = 8000) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(np.random.default_rng(seed).integers(-8000, 8000, length, np.int16), rate))


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with clips of two speakers: recordings 0, 4, 5 and 6 of each digit."""
    for speaker, name in enumerate(SPEAKERS):
        for digit in range(10):
            for number in (0, 4, 5, 6):
                clip_of(tmp_path / f"fsdd/recordings/{digit}_{name}_{number}.wav", digit + 10 * number + 100 * speaker)
    return tmp_path


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Three words of four clips: the first tests, the second validates; and noise."""
    for word in ("yes", "no", "up"):
        for number in range(4):
            clip_of(tmp_path / f"{word}/{number}f_nohash_{number}.wav", number + 10 * len(word))
    clip_of(tmp_path / "_background_noise_/pink_noise.wav", length=4000)
    (tmp_path / "testing_list.txt").write_text("yes/0f_nohash_0.wav\nno/0f_nohash_0.wav\nup/0f_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_text("yes/1f_nohash_1.wav\nno/1f_nohash_1.wav\nup/1f_nohash_1.wav\n")
    return tmp_path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in ("train", "test", "val"):
        for name in ("dog", "cat"):
            for number in range(3):
                clip_of(tmp_path / part / name / f"{number}.wav", number + 10 * len(part + name))
    return tmp_path


def test_the_official_test_set_is_recordings_0_to_4_of_every_speaker(digits: Path) -> None:
    source = fsdd(str(digits), 8000, 500)
    assert (source.train.inputs.shape, source.test.inputs.shape) == ((40, 1, 500), (40, 1, 500))
    assert source.train.targets.bincount().tolist() == source.test.targets.bincount().tolist() == [4] * 10
    assert source.class_names == tuple("0123456789")
    for part, numbers in ((source.train, (5, 6)), (source.test, (0, 4))):
        expected = sorted((digit, name, number) for digit in range(10) for name in SPEAKERS for number in numbers)
        for clip, label, (digit, name, number) in zip(part.inputs, part.targets.tolist(), expected, strict=True):
            with wave.open(str(digits / f"fsdd/recordings/{digit}_{name}_{number}.wav")) as stream:
                samples = np.frombuffer(stream.readframes(400), "<i2")
            assert label == digit
            assert np.array_equal(clip[0, :400].numpy(), samples)
            assert not clip[0, 400:].any()


def test_a_speaker_who_is_held_out_is_in_no_training_clip(digits: Path) -> None:
    source = fsdd(str(digits), 8000, 400, speaker="theo")
    held_out = {clip.numpy().tobytes() for clip in source.test.inputs}
    assert len(held_out) == 4 * 10
    assert held_out.isdisjoint(clip.numpy().tobytes() for clip in source.train.inputs)
    undecoded = fsdd.preview(root=str(digits), speaker="theo")  # type: ignore[attr-defined]
    assert torch.equal(undecoded.test.targets, source.test.targets)
    assert undecoded.train.inputs.shape == (40, 1, 0)


def test_the_numbers_of_fsdd() -> None:
    """The real clips, against the archive read by itself."""
    packed = Path(os.environ.get("VICINAL_TEST_DATA", REPO.parent / "shared/datasets")) / "fsdd.tar.xz"
    unpacked = Path(os.environ.get("VICINAL_DATA", "data"))
    if not packed.is_file() or not (unpacked / "fsdd/recordings").is_dir():
        pytest.skip(f"no {packed} (VICINAL_TEST_DATA), or it is not unpacked in {unpacked} (VICINAL_DATA)")
    source = fsdd(str(unpacked), 8000, 8000)
    assert (len(source.train.targets), len(source.test.targets)) == (2700, 300)
    assert source.train.targets.bincount().tolist() == [270] * 10
    known: dict[str, list[Any]] = {"train": [], "test": []}
    with tarfile.open(packed) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name.endswith(".wav") and (data := archive.extractfile(member)):
                with wave.open(io.BytesIO(data.read())) as stream:
                    samples = np.frombuffer(stream.readframes(stream.getnframes()), "<i2")[:8000]
                digit, speaker, number = name[:-4].split("_")
                key = "test" if int(number) < 5 else "train"
                known[key].append((f"{digit}_{speaker}_{number}.wav", int(digit), samples))
    for part, clips in ((source.train, known["train"]), (source.test, known["test"])):
        for clip, label, (_, digit, samples) in zip(
            part.inputs, part.targets, sorted(clips, key=lambda c: c[0]), strict=True
        ):
            assert int(label) == digit
            assert np.array_equal(clip[0, : len(samples)].numpy(), samples)


def test_speech_commands_go_by_their_lists(commands: Path) -> None:
    source = speech_commands(str(commands), 8000, 400, str(commands / "cache"), None)
    assert source.class_names == ("no", "up", "yes")
    assert source.val is not None
    assert [len(part.targets) for part in (source.train, source.val, source.test)] == [6, 3, 3]
    with wave.open(str(commands / "up/1f_nohash_1.wav")) as stream:
        assert np.array_equal(source.val.inputs[1, 0].numpy(), np.frombuffer(stream.readframes(400), "<i2"))
    few = speech_commands(str(commands), 8000, 400, str(commands / "cache"), 2, ["yes", "no"])
    assert few.class_names == ("yes", "no")
    assert few.val is None
    assert few.train.targets.tolist() == [0, 0, 1, 1]


def test_a_tree_of_clips(tree: Path) -> None:
    source = wavfolder(str(tree), 8000, 300, str(tree / "cache"), None)
    assert source.class_names == ("cat", "dog")
    assert source.val is not None
    assert [len(part.targets) for part in (source.train, source.val, source.test)] == [6, 6, 6]
    assert source.train.inputs.shape == (6, 1, 300)


@pytest.mark.parametrize("name", ["speech_commands", "wavfolder"])
def test_a_run_is_identified_by_the_content_of_its_clips(
    request: pytest.FixtureRequest, compose: Callable[..., Experiment], name: str
) -> None:
    folder = request.getfixturevalue({"speech_commands": "commands", "wavfolder": "tree"}[name])
    words = (f"dataset={name}", f"dataset.root={folder}", "dataset.rate=8000", "dataset.length=400", *TINY)

    def identity() -> str:
        from vicinal.data import speech

        speech._tree.cache_clear()
        return compose(*words).run_id

    before = identity()
    moved = folder.rename(folder.with_name(f"{folder.name}-moved"))
    words = (*words[:1], f"dataset.root={moved}", *words[2:])
    assert identity() == before
    clip = sorted(moved.rglob("2*.wav"))[0]
    clip_of(clip, 17)
    assert identity() != before


def test_the_files_of_the_spoken_digits_are_recorded(digits: Path, compose: Callable[..., Experiment]) -> None:
    from vicinal.build import load_data

    experiment = compose("dataset=fsdd", f"dataset.root={digits}", "dataset.length=400", *TINY)
    hashes = load_data(experiment).contents
    assert list(hashes) == ["recordings"]
    clip_of(digits / "fsdd/recordings/3_theo_5.wav", 999)
    contents.opened.clear()
    assert load_data(experiment).contents != hashes


def refusals(digits: Path, tmp_path: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """{what is wrong: (words, part of the line)}."""
    recordings = digits / "fsdd/recordings"
    own = ("dataset=fsdd", f"dataset.root={digits}", "dataset.length=400", *TINY)
    return {
        "no folder": (("dataset=fsdd", f"dataset.root={tmp_path}/none"), "root=.*no folder .*/fsdd/recordings; git"),
        "no rate": ((*own, "dataset.rate=16000"), r"dataset\.rate=16000: must be 8000, as in .*0_jackson_5\.wav"),
        "slow": ((*own, "dataset.rate=1000"), r"dataset\.rate=1000: must be .*2000"),
        "speaker": ((*own, "dataset.speaker=teo"), r"dataset\.speaker=teo: must be null or one who is there; did you"),
        "short": ((*own, "dataset.length=0"), r"dataset\.length=0: must be"),
        "few": ((*own, "dataset.length=40"), r"dataset\.length=40: must be at least 80 for SpeechCNN"),
        "mels": ((*own, "model.mels=128"), r"model\.mels=128: must be smaller at 8000"),
        "widths": ((*own, "model.widths=[]"), r"model\.widths=\[\]: must be a list of integers"),
        "too many": ((*own, "dataset.train_size=41"), r"dataset\.train_size=41: must be"),
        "network": ((*own, "model=cnn"), r"model\._target_=.*must take the arguments rate, length, classes"),
        "depth": ((*own, "mixup=cutmix", "mixup.depth=logml"), r"mixup\.depth=logml: no block .*did you mean logmel"),
        "spectrogram": ((*own, "mixup=specmix"), r"mixup\.depth=input: must be where spectrograms"),
        "inside": ((*own, "mixup=between_class", "mixup.depth=logmel"), r"mixup\.depth=logmel: must be input for"),
        "box": (
            (*own, "mixup=resizemix"),
            r"mixup\.depth=input: must be where images .* are, for ResizeMix, and .* sequences \(B, 1, 400\)$",
        ),
        "saliency": ((*own, "mixup=saliencymix"), r"SaliencyMix: SaliencyMix mixes images .* sequences \(B, 1, 400\)$"),
        "images": (
            ("mixup=between_class", *TINY[:1]),
            r"BetweenClass: BetweenClass mixes clips of sound \(B, 1, T\), and these inputs are images",
        ),
        "name": ((*own, f"dataset.root={tmp_path}/named"), r"must be named <digit>_<speaker>_<number>\.wav"),
        "digit": ((*own, f"dataset.root={tmp_path}/missing"), r"must have clips of every class for test.*none of 7"),
        "damaged": ((*own, f"dataset.root={tmp_path}/damaged"), r"must have all of its samples, and has"),
        "own": ((*own, f"dataset.root={recordings}"), r"no folder"),
    }


def test_what_cannot_be_used_is_one_line_before_a_run_begins(digits: Path, tmp_path: Path, train: Train) -> None:
    for name in ("named", "missing", "damaged"):
        shutil.copytree(digits / "fsdd", tmp_path / name / "fsdd")
    clip_of(tmp_path / "named/fsdd/recordings/a.wav")
    for file in tmp_path.glob("missing/fsdd/recordings/7_*_[04].wav"):
        file.unlink()
    clip = tmp_path / "damaged/fsdd/recordings/4_theo_6.wav"
    clip.write_bytes(clip.read_bytes()[:-10])
    for name, (words, expected) in refusals(digits, tmp_path).items():
        code, _, errors = train(*words)
        line = errors.strip().splitlines()[-1]
        assert code != 0, name
        assert line.startswith("error: "), (name, errors)
        assert re.search(expected, line), (name, line)
        assert not (tmp_path / "outputs/runs").exists() or not any((tmp_path / "outputs/runs").iterdir()), name


def test_other_folders_are_refused_too(commands: Path, tree: Path, tmp_path: Path) -> None:
    def refused(source: Any, folder: Path, **more: Any) -> str:
        with pytest.raises(ValueError, match=" ") as error:
            source(str(folder), 8000, 400, str(tmp_path / "cache"), None, **more)
        return str(error.value)

    assert "unpack the Speech Commands there" in refused(speech_commands, tmp_path / "none")
    assert refused(speech_commands, commands, words=["yes", "noo"]).startswith("words must be folders of")
    assert refused(speech_commands, commands, words=["yes"]).startswith("words must be two different ones or more")
    (commands / "yes/1f_nohash_1.wav").unlink()
    assert "is in validation_list.txt and must be there" in refused(speech_commands, commands)
    (commands / "testing_list.txt").unlink()
    assert "testing_list.txt cannot be read (No such file or directory)" in refused(speech_commands, commands)
    (tree / "val/dog").rename(tree / "val/wolf")
    assert "must have the same class folders" in refused(wavfolder, tree)
    assert "expected train/<class>/*.wav" in refused(wavfolder, tmp_path / "none")


def written(folder: Path, part: str, content: str) -> None:
    (folder / f"{part}_list.txt").write_text(content, encoding="utf-8")


def test_lists_and_clips_are_read_as_people_write_them(commands: Path) -> None:
    """A byte order mark, CR LF and endings in capitals; files that macOS leaves beside them are no clips."""
    before = speech_commands(str(commands), 8000, 400, str(commands / "cache"), None)
    (commands / "yes/0f_nohash_0.wav").rename(commands / "yes/0f_nohash_0.WAV")
    (commands / "yes/._2f_nohash_2.wav").write_bytes(b"Mac OS X")
    written(commands, "testing", "\ufeffyes/0f_nohash_0.WAV\r\nno/0f_nohash_0.wav\r\nup/0f_nohash_0.wav\r\n")
    after = speech_commands(str(commands), 8000, 400, str(commands / "cache"), None)
    assert (len(after.train.targets), len(after.test.targets)) == (6, 3)
    for ours, theirs in zip((after.train, after.test), (before.train, before.test), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)


@pytest.mark.parametrize(
    "line", ["./yes/0f_nohash_0.wav", r"yes\0f_nohash_0.wav", "Yes/0f_nohash_0.wav", "yes/a/0.wav", "yes/0f_nohash_0"]
)
@pytest.mark.parametrize("words", [None, ["no", "up"]])
def test_a_line_that_is_no_clip_is_refused(commands: Path, line: str, words: list[str] | None) -> None:
    written(commands, "testing", f"no/0f_nohash_0.wav\n{line}\nup/0f_nohash_0.wav\n")
    wanted = r"testing_list\.txt must have <word>/<clip>\.wav in every line, of a word that is there, not "
    with pytest.raises(ValueError, match=rf"^root: .*{wanted}{re.escape(repr(line))}"):
        speech_commands(str(commands), 8000, 400, str(commands / "cache"), None, words)


@pytest.mark.parametrize("val_size", [None, 3])
def test_a_clip_in_both_lists_is_refused(commands: Path, val_size: int | None) -> None:
    written(commands, "validation", "yes/0f_nohash_0.wav\nno/1f_nohash_1.wav\nup/1f_nohash_1.wav\n")
    both = r"yes/0f_nohash_0\.wav is in testing_list\.txt and in validation_list\.txt"
    with pytest.raises(ValueError, match=rf"^root: .*{both}"):
        speech_commands(str(commands), 8000, 400, str(commands / "cache"), val_size)


def test_clips_of_two_parts_are_counted(
    commands: Path, compose: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(commands / "no/0f_nohash_0.wav", commands / "no/3f_nohash_3.wav")
    compose("dataset=speech_commands", f"dataset.root={commands}", "dataset.rate=8000", "dataset.length=400", *TINY)
    assert f"{commands}: clips of test that are in train too, byte by byte: " in caplog.text


def test_equal_spoken_digits_of_two_parts_are_counted(digits: Path, caplog: pytest.LogCaptureFixture) -> None:
    recordings = digits / "fsdd/recordings"
    shutil.copy(recordings / "3_theo_5.wav", recordings / "3_theo_0.wav")
    shutil.copy(recordings / "7_theo_6.wav", recordings / "7_jackson_4.wav")
    fsdd(str(digits), rate=8000, length=400)
    assert f"{recordings}: clips of test that are in train too, byte by byte: 2 of 40" in caplog.text


def test_a_picture_of_sound() -> None:
    """A tone is a bright line at its height, silence is black; a mask in time is columns."""
    kind = Waveforms(8000, 4000)
    clips = torch.zeros(3, 1, 4000)
    for index, pitch in enumerate((300, 3000)):
        clips[index, 0, :2000] = torch.sin(2 * torch.pi * pitch * torch.arange(2000) / 8000)
    pictures = kind.picture(clips)
    assert (pictures.shape, pictures.dtype) == ((3, 1, 40, 51), torch.uint8)
    low, high = (picture[0, :, 10].argmax() for picture in pictures[:2])
    assert low > 20 > high  # the low tones below
    assert pictures[0].max() > 245
    assert not pictures[2].any()
    assert not pictures[:, :, :, 30:].any()

    own = torch.ones(2, 1, 4000)
    own[0, :, 1000:3000] = 0
    own[1] = 0.25
    mask = kind.mask_picture(own)
    assert mask.shape == (2, 1, 40, 51)
    assert (mask[0, 0] == mask[0, 0, 0]).all()
    assert (mask[0, 0, 0, [0, 11, 14, 36, 39, 50]] == torch.tensor([255, 255, 0, 0, 255, 255])).all()
    assert (mask[1] == 64).all()

    inside = torch.ones(1, 1, 40, 51)
    inside[:, :, :5, 20:] = 0  # of the low tones
    assert torch.equal(kind.mask_picture(inside).flip(2).float() / 255, inside)
    deep = torch.ones(1, 4, 20, 25)
    deep[:, :2] = 0  # half of the channels
    assert (kind.mask_picture(deep) == 128).all()


def test_a_sound_is_the_clip_it_was_made_of() -> None:
    samples = torch.tensor([[[-32768, -1, 0, 1, 32767]]], dtype=torch.int16)
    assert torch.equal(Waveforms(8000, 5).sound(samples / 32768), samples[0])
    assert Waveforms(8000, 2).sound(torch.tensor([[[1.5, -1.5]]])).tolist() == [[32767, -32768]]


def test_sound_alone_is_heard() -> None:
    assert [name for name, kind in INPUTS.items() if kind.audible] == ["audio"]
