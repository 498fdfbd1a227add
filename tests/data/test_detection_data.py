"""Images with boxes against torchvision's readers, and what is wrong with a file, in one line that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from tests.data.box_files import HEIGHT, NAMES, WIDTH, annotation, boxes_of, picture, write_coco, write_voc
from vicinal.data import coco as coco_module
from vicinal.data import voc as voc_module
from vicinal.data.coco import coco
from vicinal.data.imagefolder import imagefolder
from vicinal.data.voc import voc
from vicinal.errors import UserError
from vicinal.experiment import Experiment

Compose = Callable[..., Experiment]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "voc")


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


@pytest.fixture(autouse=True)
def read_again() -> None:
    voc_module.examined.cache_clear()
    coco_module.examined.cache_clear()


def words(folder: Path) -> tuple[str, ...]:
    return ("dataset=voc", f"dataset.folder={folder}", "dataset.origin=0", "dataset.image_size=32")


def coco_words(folder: Path) -> tuple[str, ...]:
    files = [f"dataset.{part}_file={folder / part}.json" for part in ("train", "test", "val")]
    images = [f"dataset.{part}_images={folder / part}" for part in ("train", "test", "val")]
    return ("dataset=coco", *files, *images, "dataset.val_size=null", "dataset.image_size=32")


def read_voc(folder: Path, **keys: Any) -> Any:
    given = {"image_size": 32, "channels": 3, "cache_dir": "unused", "val_size": None, "origin": 0}
    return voc(str(folder), **{**given, **keys})


def read_coco(folder: Path, **keys: Any) -> Any:
    named = {f"{part}_file": str(folder / f"{part}.json") for part in ("train", "test", "val")}
    named |= {f"{part}_images": str(folder / part) for part in ("train", "test", "val")}
    return coco(**{**named, "image_size": 32, "channels": 3, "cache_dir": "unused", "val_size": None, **keys})


def test_both_forms_give_the_pixels_and_boxes_that_were_written(folder: Path, instances: Path) -> None:
    number = 0
    sources = read_voc(folder), read_coco(instances)
    for part, count in (("train", 5), ("val", 3), ("test", 3)):
        for place in range(count):
            expected = torch.zeros(3, 32, 32, dtype=torch.uint8)  # black below
            expected[:, :HEIGHT, :WIDTH] = tv.pil_to_tensor(picture(number))
            rows = [[NAMES.index(name), *corners, 1.0] for name, *corners in boxes_of(number)]
            for source in sources:
                samples = getattr(source, part)
                assert torch.equal(samples.inputs[place], expected)
                assert samples.targets[place].tolist() == rows
            number += 1
    assert [source.class_names for source in sources] == [NAMES, NAMES]


def deep() -> tuple[Image.Image, torch.Tensor]:
    """Grey with 16 bits, and each value v as the 8-bit number next to v / 257."""
    values = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    return Image.fromarray(values), torch.from_numpy((values / 257).round().astype(np.uint8)).expand(3, -1, -1)


def see_through() -> tuple[Image.Image, torch.Tensor]:
    """A colour in three parts: opaque, transparent, and a fifth of it; on black."""
    image = Image.new("RGBA", (32, 32), (200, 100, 50, 255))
    image.paste((10, 250, 30, 0), (0, 0, 16, 16))
    image.paste((200, 100, 50, 51), (16, 16, 32, 32))
    expected = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].repeat(1, 32, 32)
    expected[:, :16, :16] = 0
    expected[:, 16:, 16:] = torch.tensor([40, 20, 10])[:, None, None]
    return image, expected


@pytest.mark.parametrize("make", [deep, see_through])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_has_the_pixels_that_it_has_in_a_tree_of_images(
    make: Callable[[], tuple[Image.Image, torch.Tensor]],
    channels: int,
    folder: Path,
    instances: Path,
    tmp_path: Path,
) -> None:
    image, expected = make()
    tree = tmp_path / "tree"
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tree / name).mkdir(parents=True)
        image.save(tree / name / "0.png")
    image.save(folder / "JPEGImages/train0.png")
    write(folder, "train0", boxes_of(0), height=32)
    image.save(instances / "train/0.png")
    changed(instances, lambda content: content["images"][0].update(height=32))
    sources = (
        imagefolder(str(tree), 32, channels, str(tmp_path / "cache"), 0),
        read_voc(folder, channels=channels),
        read_coco(instances, channels=channels),
    )
    if channels == 1:
        expected = torch.from_numpy(np.array(Image.fromarray(expected.permute(1, 2, 0).numpy()).convert("L")))[None]
    for source in sources:
        assert torch.equal(source.train.inputs[0], expected)


def test_pixels_whose_range_nobody_knows_are_refused(folder: Path) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 70_000, np.int32)).save(folder / "JPEGImages/train0.png", "TIFF")
    with pytest.raises(ValueError, match=r"^folder: .*train0\.png cannot be decoded \(signed or 32-bit pixels"):
        read_voc(folder)


def test_pixels_stay_where_they_are_stored_as_their_boxes_do(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by a right angle
    picture(0).save(folder / "JPEGImages/train0.png", exif=exif)
    source = read_voc(folder)
    assert torch.equal(source.train.inputs[0, :, :HEIGHT], tv.pil_to_tensor(picture(0)))
    assert source.train.targets[0, 0].tolist() == [1, 2, 3, 10, 11, 1]


def test_images_and_boxes_are_scaled_alike(folder: Path) -> None:
    source = read_voc(folder, image_size=16)
    assert torch.equal(source.train.targets[0, :, 1:5], torch.tensor([[1.0, 1.5, 5, 5.5], [0.5, 7, 15.5, 10]]))
    theirs = tv.resize(tv.pil_to_tensor(picture(0)), [12, 16], antialias=True).int()
    assert (source.train.inputs[0, :, :12].int() - theirs).abs().max() <= 1  # of PIL, which rounds in between
    assert not source.train.inputs[0, :, 12:].any()


def test_the_first_pixel_of_voc_is_number_one_and_the_last_belongs_to_the_box(folder: Path) -> None:
    for part in ("train", "val", "test"):
        write(folder, f"{part}0", [("dot", 1, 1, WIDTH, HEIGHT), ("bar", 3, 4, 3, 4)])
        (folder / "ImageSets/Main" / f"{part}.txt").write_text(f"{part}0\n")
    boxes = read_voc(folder, origin=1).train.targets[0, :, 1:5]
    assert boxes.tolist() == [[0, 0, WIDTH, HEIGHT], [2, 3, 3, 4]]


def write(folder: Path, name: str, rows: Any, **size: int) -> None:
    (folder / "Annotations" / f"{name}.xml").write_text(annotation(rows, **size))


def test_difficult_objects_and_crowds_are_left_out(folder: Path, instances: Path) -> None:
    file = folder / "Annotations/train0.xml"
    file.write_text(file.read_text().replace("<name>dot</name>", "<name>dot</name><difficult>1</difficult>"))
    assert read_voc(folder).train.targets[0, :, 5].tolist() == [1, 0]
    assert read_voc(folder, difficult=True).train.targets[0, :, 5].tolist() == [1, 1]
    content = json.loads((instances / "train.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    (instances / "train.json").write_text(json.dumps(content))
    assert read_coco(instances).train.targets[0, :, 5].tolist() == [1, 0]


def test_clip_cuts_boxes_and_keeps_images_without_any(folder: Path) -> None:
    write(folder, "train0", [("dot", -4, 20, 5, 30), ("bar", 40, 2, 50, 9)])
    write(folder, "train1", [])
    boxes = read_voc(folder, bad_boxes="clip").train.targets
    assert boxes[0].tolist() == [[1, 0, 20, 5, 24, 1], [0, 0, 0, 0, 0, 0]]
    assert not boxes[1].any()


def listed(folder: Path, part: str, names: str) -> None:
    (folder / "ImageSets/Main" / f"{part}.txt").write_text(names)


def test_names_of_a_list_and_endings_of_images_are_read_as_people_write_them(folder: Path) -> None:
    before = read_voc(folder)
    listed(folder, "train", "\ufefftrain0\r\ntrain1 1\r\ntrain2\r\ntrain3\r\ntrain4\r\n\r\n")
    for name, ending in (("train0", "PNG"), ("val1", "Png")):
        (folder / f"JPEGImages/{name}.png").rename(folder / f"JPEGImages/{name}.{ending}")
    after = read_voc(folder)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(after, part).inputs, getattr(before, part).inputs)


@pytest.mark.parametrize(("width", "height"), [("32.0", "24.0"), (0, 0), (0, 24)])
def test_a_size_may_be_written_as_floats_and_0_says_nothing(
    folder: Path, instances: Path, width: Any, height: Any
) -> None:
    before = read_voc(folder), read_coco(instances)
    write(folder, "train0", boxes_of(0), width=width, height=height)
    changed(instances, lambda content: content["images"][0].update(width=width, height=height))
    for source, old in zip((read_voc(folder), read_coco(instances)), before, strict=True):
        assert torch.equal(source.train.targets, old.train.targets)


def test_an_image_of_two_parts_is_counted(
    folder: Path, instances: Path, compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "JPEGImages/test1.png").write_bytes((folder / "JPEGImages/train0.png").read_bytes())
    (instances / "val/2.png").write_bytes((instances / "train/0.png").read_bytes())
    for lr in (0.1, 0.2):
        compose(*words(folder), f"optimizer.lr={lr}")
        compose(*coco_words(instances), f"optimizer.lr={lr}")
    lines = [record.getMessage() for record in caplog.records if "byte by byte" in record.getMessage()]
    assert lines == [
        f"{folder}/JPEGImages: images of test that are in train too, byte by byte: 1 of 3",
        f"{instances}/train: images of val that are in train too, byte by byte: 1 of 3",
    ]


def test_files_that_are_not_read_are_no_part_of_the_identity(folder: Path, instances: Path, compose: Compose) -> None:
    cut = "dataset.val_size=1"
    given = [word for word in coco_words(instances) if "val" not in word]
    without = compose(*given, "dataset.val_file=null", "dataset.val_images=null", cut)
    assert compose(*coco_words(instances), cut).cell_id == without.cell_id
    assert compose(*words(folder), cut, "dataset.val=other").cell_id == compose(*words(folder), cut).cell_id
    with pytest.raises(UserError, match=r"other\.txt cannot be read"):
        compose(*words(folder), "dataset.val=other")


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><annotation><folder>&c;</folder></annotation>'
VOC_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (
        lambda f: (f / "ImageSets").rename(f / "other"),
        "train.txt cannot be read (No such file or directory)",
    ),
    "empty list": (lambda f: (f / "ImageSets/Main/test.txt").write_text("\n"), "test.txt lists no images"),
    "listed twice": (
        lambda f: (f / "ImageSets/Main/val.txt").write_text("val0\nval0\n"),
        "val0.png is listed twice in val",
    ),
    "in two parts": (
        lambda f: listed(f, "test", "test0\ntrain1\n"),
        "train1.png is listed in train and in test",
    ),
    "two images": (
        lambda f: (f / "JPEGImages/val1.JPG").touch(),
        "JPEGImages must have one image val1, and has val1.JPG and val1.png",
    ),
    "half a pixel": (
        lambda f: write(f, "val1", boxes_of(1), width=32.5),  # type: ignore[arg-type]
        "val1.xml cannot be read (a size must be of integers, not 32.5 x 24)",
    ),
    "a path": (
        lambda f: (f / "ImageSets/Main/train.txt").write_text("../../x\n"),
        "must have names of images, not '../../x'",
    ),
    "no text": (
        lambda f: (f / "ImageSets/Main/train.txt").write_bytes(b"\xff\xfe\x00"),
        "train.txt cannot be read ('utf-8'",
    ),
    "no xml": (
        lambda f: (f / "Annotations/train1.xml").unlink(),
        "train1.xml cannot be read (No such file or directory)",
    ),
    "broken xml": (
        lambda f: (f / "Annotations/val1.xml").write_text("<annotation>"),
        "val1.xml cannot be read (no element",
    ),
    "entities": (
        lambda f: (f / "Annotations/val1.xml").write_text(LAUGHS),
        "val1.xml cannot be read (it has a document type)",
    ),
    "entities in UTF-16": (
        lambda f: (f / "Annotations/val1.xml").write_bytes(LAUGHS.encode("utf-16")),
        "val1.xml cannot be read (it has a document type)",
    ),
    "large xml": (
        lambda f: (f / "Annotations/val1.xml").write_text("<annotation>" + " " * 2**20 + "</annotation>"),
        "val1.xml cannot be read (it has more than 1,048,576 bytes)",
    ),
    "deep xml": (
        lambda f: (f / "Annotations/val1.xml").write_text("<a>" * 9**5 + "</a>" * 9**5),
        "val1.xml has no boxes",
    ),
    "no box in an object": (
        lambda f: (f / "Annotations/val1.xml").write_text("<annotation><object><name>dot</name></object></annotation>"),
        "val1.xml cannot be read (an object has no bndbox)",
    ),
    "no number": (lambda f: write(f, "val1", [("dot", "one", 1, 2, 2)]), "val1.xml cannot be read (could not convert"),
    "not finite": (lambda f: write(f, "val1", [("dot", "nan", 1, 2, 2)]), "box 1 of val1.png must have finite corners"),
    "outside": (
        lambda f: write(f, "val1", [("dot", 1, 1, 33, 2)]),
        "val1.xml: box 1 of val1.png is not inside 32 x 24 pixels: 1 1 to 33 2; dataset.bad_boxes=clip",
    ),
    "no area": (
        lambda f: write(f, "val1", [("dot", 3, 1, 3, 2)]),
        "val1.xml: box 1 of val1.png has no area: 3 1 to 3 2",
    ),
    "class": (
        lambda f: write(f, "val1", [("ring", 3, 1, 5, 2)]),
        "val1.xml: box 1 of val1.png is of the class ring, which is none of bar, dot",
    ),
    "no boxes": (lambda f: write(f, "val1", []), "val1.xml has no boxes of val1.png; dataset.bad_boxes=clip"),
    "other size": (
        lambda f: write(f, "val1", boxes_of(1), width=640),
        "val1.xml tells of 640 x 24 pixels, and val1.png has 32 x 24",
    ),
    "no image": (lambda f: (f / "JPEGImages/train2.png").unlink(), "train2.xml: no image"),
    "no picture": (lambda f: (f / "JPEGImages/train2.png").write_text("ha"), "train2.png is no image that can be read"),
    "one class": (
        lambda f: [write(f, xml.stem, [("dot", 1, 1, 5, 5)]) for xml in (f / "Annotations").iterdir()],
        "there must be two classes or more, and there is only dot",
    ),
}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_a_fault_of_a_folder_is_one_line_before_a_run_folder_exists(
    fault: str, folder: Path, compose: Compose, tmp_path: Path
) -> None:
    damage, reason = VOC_FAULTS[fault]
    damage(folder)
    with pytest.raises(UserError) as error:
        compose(*words(folder))
    line = str(error.value)
    assert line.startswith(f"dataset.folder={folder}: ")
    assert reason in line
    assert "\n" not in line
    assert not (tmp_path / "outputs").exists()


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "train.json").read_text())
    change(content)
    (folder / "train.json").write_text(json.dumps(content))


COCO_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda f: (f / "train.json").unlink(), "cannot be read (No such file or directory)"),
    "no JSON": (lambda f: (f / "train.json").write_text("{"), "must have the form of COCO's instances (Expecting"),
    "deep JSON": (lambda f: (f / "train.json").write_text("[" * 9**6), "must have the form of COCO's instances"),
    "a list": (lambda f: (f / "train.json").write_text("[]"), "must have the form of COCO's instances"),
    "no images": (
        lambda f: changed(f, lambda c: c.pop("images")),
        "must have the form of COCO's instances: no 'images'",
    ),
    "empty": (lambda f: changed(f, lambda c: c.update(images=[], annotations=[])), "must have images"),
    "no such category": (lambda f: changed(f, lambda c: c["annotations"][0].update(category_id=4)), "no 4"),
    "no such image": (lambda f: changed(f, lambda c: c["annotations"][0].update(image_id=-1)), "no -1"),
    "three numbers": (lambda f: changed(f, lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), "(not enough values"),
    "an image twice": (
        lambda f: changed(f, lambda c: c["images"][1].update(id=1)),
        "(images must have different ids, and there are several of 1)",
    ),
    "half an image": (
        lambda f: changed(f, lambda c: c["images"][1].update(id=1.5)),
        "(an id must be an integer, not 1.5)",
    ),
    "half a reference": (
        lambda f: changed(f, lambda c: c["annotations"][0].update(category_id=3.5)),
        "(an id must be an integer, not 3.5)",
    ),
    "a category twice": (
        lambda f: changed(f, lambda c: c["categories"][1].update(id=90)),
        "(categories must have different ids, and there are several of 90)",
    ),
    "a name twice": (
        lambda f: changed(f, lambda c: c["categories"][1].update(name="dot")),
        "(categories must have different names, not ['dot', 'dot'])",
    ),
    "outside": (
        lambda f: changed(f, lambda c: c["annotations"][0].update(bbox=[1, 2, 40, 3])),
        "train.json: box 1 of 0.png is not inside 32 x 24 pixels: 1 2 to 41 5; dataset.bad_boxes=clip",
    ),
    "elsewhere": (
        lambda f: changed(f, lambda c: c["images"][0].update(file_name="../val/0.png")),
        "(an image must be in the folder, not '../val/0.png')",
    ),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_a_fault_of_a_json_file_is_one_line(fault: str, instances: Path, compose: Compose, tmp_path: Path) -> None:
    damage, reason = COCO_FAULTS[fault]
    damage(instances)
    with pytest.raises(UserError) as error:
        compose(*coco_words(instances), "dataset.bad_boxes=refuse")
    line = str(error.value)
    assert line.startswith(f"dataset.train_file={instances / 'train.json'}: ")
    assert reason in line
    assert "\n" not in line
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("dataset.train_images=nowhere", "dataset.train_images=nowhere: must be a folder, and there is none"),
        ("dataset.val_images=null", "dataset.val_images=null: must be a folder beside val_file"),
        ("dataset.bad_boxes=drop", "dataset.bad_boxes=drop: must be one of refuse, clip"),
        ("dataset.channels=2", "dataset.channels=2: must be 1 (grey) or 3 (RGB)"),
        ("dataset.image_size=40", "dataset.image_size=40: must be a multiple of 16 for CenterNet"),
        ("dataset.augment=randaugment", "dataset.augment=randaugment: must be true or false: a policy moves images"),
        (
            "dataset.label_noise=0.1",
            "dataset.label_noise=0.1: must be 0: a sample of dataset.task=detection has not one",
        ),
        ("trainer.loss=ce", "trainer.loss=ce: must be one of auto, weighted, unweighted with dataset.task=detection"),
        ("model=cnn", "must have the methods losses and decode for dataset.task=detection"),
        ("mixup.layers=[stage5]", "mixup.layers=stage5: no block of"),
    ],
)
def test_keys_that_do_not_fit_are_one_line(word: str, reason: str, instances: Path, compose: Compose) -> None:
    with pytest.raises(UserError, match=r"(?s)^[^\n]+$") as error:
        compose(*coco_words(instances), "mixup=manifold", word)
    assert reason in str(error.value)


def test_an_image_of_two_coco_files_is_refused(instances: Path) -> None:
    with pytest.raises(ValueError, match=r"^test_file: 0\.png is listed in train and in test"):
        read_coco(instances, test_images=str(instances / "test/../train"), val_size=1)


def test_corners_from_0_are_told_from_boxes_outside(folder: Path, compose: Compose) -> None:
    write(folder, "train0", [("dot", 0, 3, 8, 9), ("bar", 1, 1, 4, 4)])
    with pytest.raises(
        UserError, match=r"box 1 of train0\.png .*: -1 2 to 8 9; dataset\.origin=0 takes corners as edges"
    ):
        compose(*words(folder), "dataset.origin=1")


def test_a_truncated_image_is_named(folder: Path) -> None:
    file = folder / "JPEGImages/train3.png"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"^folder: .*train3\.png cannot be decoded \("):
        read_voc(folder)


def test_too_many_pixels_are_not_decoded(folder: Path) -> None:
    Image.fromarray(np.zeros((8300, 8300), np.uint8)).save(folder / "JPEGImages/train3.png")
    with pytest.raises(ValueError, match=r"train3\.png has 8,300 x 8,300 pixels, and at most 67,108,864 fit"):
        read_voc(folder)


def test_a_run_is_that_of_its_content_wherever_it_is(folder: Path, compose: Compose, tmp_path: Path) -> None:
    here = compose(*words(folder)).cell_id
    other = folder.rename(tmp_path / "other")
    assert compose(*words(other)).cell_id == here
    voc_module.examined.cache_clear()
    write(other, "test0", [("dot", 3, 1, 5, 2)])
    assert compose(*words(other)).cell_id != here


@pytest.mark.parametrize(
    ("frame", "size"),
    [([24, 32], (24, 32)), ([32, 48], (32, 43)), ([48, 32], (24, 32)), ([12, 64], (12, 16)), ([36, 48], (36, 48))],
)
def test_an_image_is_as_large_as_fits_the_frame_and_its_boxes_with_it(
    folder: Path, instances: Path, frame: list[int], size: tuple[int, int]
) -> None:
    """Of 24 x 32 pixels: in [32,48], the width is 32 x 4 / 3, rounded."""
    height, width = size
    theirs = tv.pil_to_tensor(picture(0).resize((width, height), Image.Resampling.BILINEAR))
    for source in (read_voc(folder, image_size=frame), read_coco(instances, image_size=frame)):
        assert source.train.inputs.shape[1:] == (3, *frame)
        assert torch.equal(source.train.inputs[0, :, :height, :width], theirs)
        assert not source.train.inputs[0, :, height:].any()
        assert not source.train.inputs[0, :, :, width:].any()
        scale = torch.tensor([width / WIDTH, height / HEIGHT]).repeat(2)
        corners = torch.tensor([row[1:] for row in boxes_of(0)]) * scale
        torch.testing.assert_close(source.train.targets[0, :, 1:5], corners)
