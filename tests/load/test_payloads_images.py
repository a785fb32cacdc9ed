from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Workload
from tritonforge_load.payloads import Request, check_of, images, requests_of


def workload_of(*, batch: int = 1, labels: str | None = None, **source: Any) -> Workload:
    data: dict[str, Any] = {
        "name": "w", "model": "m", "batch": batch, "inputs": {"IMAGE": {"images": "images", **source}},
    }  # fmt: skip
    if labels is not None:
        data["check"] = {"output": "y", "labels": {"file": labels}}
    return declared_from_mapping(data, Workload, origin="test")


def spec_of(*dims: int, datatype: str = "UINT8", max_batch_size: int = 8) -> ModelSpec:
    return ModelSpec(
        name="m",
        inputs=(TensorSpec(name="IMAGE", datatype=datatype, dims=dims),),
        outputs=(TensorSpec(name="y", datatype="FP32", dims=(10,)),),
        max_batch_size=max_batch_size,
    )


def pixels_of(number: int, *, height: int = 8, width: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four PNG images whose order by name is not the one in which they were written, and a file that is none."""
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(("d.png", "b.PNG", "c.png", "a.png")):
        Image.fromarray(pixels_of(number)).save(images / name, format="png")
    (images / "notes.txt").write_text("no image")
    return tmp_path


def sent(requests: list[Request]) -> NDArray[Any]:
    return np.concatenate([request.inputs["IMAGE"] for request in requests])


IN_ORDER = [pixels_of(3), pixels_of(1), pixels_of(2), pixels_of(0)]


def test_uint8_inputs_get_pixels_as_they_are_in_the_order_of_names(folder: Path) -> None:
    requests = requests_of(workload_of(batch=3), spec_of(8, 6, 3), base=folder, seed=1)
    assert [(request.first_row, request.rows) for request in requests] == [(0, 3)]
    assert requests[0].inputs["IMAGE"].dtype == np.uint8
    assert np.array_equal(requests[0].inputs["IMAGE"], IN_ORDER[:3])


def test_channels_come_first_where_the_model_has_them_first(folder: Path) -> None:
    images = sent(requests_of(workload_of(), spec_of(3, 8, 6), base=folder, seed=1))
    assert np.array_equal(images, [pixels.transpose(2, 0, 1) for pixels in IN_ORDER])


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "FP64", "BF16"])
def test_floating_inputs_are_scaled_and_normalised(datatype: str, folder: Path) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    workload = workload_of(mean=mean, std=std)
    images = sent(requests_of(workload, spec_of(3, 8, 6, datatype=datatype), base=folder, seed=1))
    expected = [((pixels / 255 - mean) / std).transpose(2, 0, 1) for pixels in IN_ORDER]
    tolerance = {"FP64": 1e-12, "FP32": 1e-5, "FP16": 2e-3, "BF16": 2e-2}[datatype]
    assert np.allclose(images.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
    assert images.dtype == TensorSpec(name="x", datatype=datatype, dims=()).type.dtype


def test_a_scale_of_1_leaves_pixels_and_one_value_is_for_all_channels(folder: Path) -> None:
    workload = workload_of(scale=1, mean=[100])
    images = sent(requests_of(workload, spec_of(8, 6, 3, datatype="FP32"), base=folder, seed=1))
    assert np.array_equal(images, np.array(IN_ORDER, np.float32) - 100)


def test_images_are_stretched_bilinearly_over_all_pixels(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    stripes = np.zeros((16, 40, 3), np.uint8)
    stripes[:, ::4] = 240  # one column of four: a filter that skips pixels would see all of it or none
    Image.fromarray(stripes).save(tmp_path / "images" / "stripes.png")
    image = sent(requests_of(workload_of(), spec_of(8, 5, 3), base=tmp_path, seed=1))[0]
    assert image.shape == (8, 5, 3)
    assert np.all(np.abs(image.astype(int) - 60) < 12)


@pytest.mark.parametrize(("dims", "mode"), [((8, 6, 1), "L"), ((4, 8, 6), "RGBA")])
def test_channels_are_grey_or_have_transparency(dims: tuple[int, ...], mode: str, folder: Path) -> None:
    images = sent(requests_of(workload_of(), spec_of(*dims), base=folder, seed=1))
    layout_last = [np.asarray(Image.fromarray(pixels).convert(mode)).reshape(8, 6, -1) for pixels in IN_ORDER]
    assert np.array_equal(images, layout_last if dims[-1] == 1 else [it.transpose(2, 0, 1) for it in layout_last])


def test_images_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255  # the upper edge, which is the right one when turned by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "images" / "turned.jpg", exif=exif, quality=95)
    image = sent(requests_of(workload_of(), spec_of(6, 4, 3), base=tmp_path, seed=1))[0]
    assert image[:, -1].min() > 200
    assert image[:, 0].max() < 50


def test_a_model_without_batch_dimension_gets_one_image_a_request(folder: Path) -> None:
    spec = spec_of(1, 3, -1, -1, max_batch_size=0)
    requests = requests_of(workload_of(shape=[1, 3, 8, 6]), spec, base=folder, seed=1)
    assert [request.inputs["IMAGE"].shape for request in requests] == [(1, 3, 8, 6)] * 4
    assert np.array_equal(requests[1].inputs["IMAGE"][0], IN_ORDER[1].transpose(2, 0, 1))


def test_only_as_many_as_the_limit_are_read(folder: Path) -> None:
    (folder / "images" / "c.png").write_text("no image")
    requests = requests_of(workload_of(limit=2), spec_of(8, 6, 3), base=folder, seed=1)
    assert [request.first_row for request in requests] == [0, 1]


@pytest.mark.parametrize(
    ("dims", "source", "message"),
    [
        ((3, 8, 3), {}, r"IMAGE: dims \(3, 8, 3\) can be NCHW and NHWC. Say which with layout:"),
        ((8, 3, 8), {}, r"IMAGE: images: expected an input of 1, 3 or 4 channels, got dims \(8, 3, 8\)"),
        ((8, 8, 3), {"layout": "NCHW"}, r"IMAGE.layout: expected 1, 3 or 4 channels in NCHW, got dims \(8, 8, 3\)"),
        ((64,), {}, r"IMAGE: images: expected an input of height, width and channels, got dims \(64,\)"),
        ((2, 8, 8, 3), {}, r"IMAGE: images: expected an input of height, width and channels, got dims"),
        ((3, -1, -1), {}, r"'w': IMAGE has open dimensions \(3, -1, -1\). Give the input a shape"),
        ((8, 8, 3), {"scale": 1.0}, r"IMAGE.scale: an input of UINT8 gets pixels as they are. Remove it"),
        ((8, 8, 3), {"images": "none"}, r"none: No such file or directory. Check the path of images:"),
        ((8, 8, 3), {"images": "empty"}, r"empty: expected files .jpg, .jpeg or .png, got none"),
        ((8, 8, 3), {"images": "broken"}, r"broken.png: cannot be read as an image: .* Write the file again"),
        ((8, 8, 3), {"images": "cut"}, r"cut.jpg: cannot be read as an image: .* Write the file again"),
        ((8, 8, 3), {"images": "deep"}, r"deep.png: expected 8 bits a channel, got mode I;16"),
    ],
)  # fmt: skip
def test_refusals_say_which_file_and_what_to_do(
    dims: tuple[int, ...], source: dict[str, Any], message: str, folder: Path
) -> None:
    for name in ("empty", "broken", "cut", "deep"):
        (folder / name).mkdir()
    (folder / "broken" / "broken.png").write_text("no image")
    Image.fromarray(pixels_of(1, height=64, width=64)).save(folder / "cut" / "whole.jpg")
    (folder / "cut" / "cut.jpg").write_bytes((folder / "cut" / "whole.jpg").read_bytes()[:900])
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "deep" / "deep.png")
    with pytest.raises(SpecError, match=message):
        requests_of(workload_of(**source), spec_of(*dims), base=folder, seed=1)


@pytest.mark.parametrize(
    ("datatype", "source", "message"),
    [
        ("INT32", {}, r"IMAGE: images: expected an input of UINT8 or floating point, got INT32"),
        ("BYTES", {}, r"IMAGE: images: expected an input of UINT8 or floating point, got BYTES"),
        ("FP32", {"mean": [1, 2]}, r"IMAGE.mean: expected 3 values, one a channel, got 2"),
    ],
)
def test_refusals_of_types(datatype: str, source: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(SpecError, match=message):
        requests_of(workload_of(**source), spec_of(8, 8, 3, datatype=datatype), base=folder, seed=1)


def test_both_layouts_can_be_said(folder: Path) -> None:
    for layout in ("NCHW", "NHWC"):
        requests_of(workload_of(layout=layout), spec_of(3, 8, 3), base=folder, seed=1)


def test_too_many_images_are_refused_before_one_is_read(folder: Path) -> None:
    (folder / "images" / "a.png").write_text("no image")
    with pytest.raises(SpecError, match=r"expected at most 2 GiB, got 3.6 GiB, 3.6 GiB of it IMAGE. Lower its limit"):
        requests_of(workload_of(), spec_of(9000, 9000, 3, datatype="FP32"), base=folder, seed=1)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """So many images that other things want their turn meanwhile."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(300):
        Image.fromarray(np.full((8, 6, 3), number % 256, np.uint8)).save(images / f"{number:03}.png")
    return tmp_path


def test_many_images_are_in_the_order_of_their_names_and_said_on_the_way(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_SAY_EVERY_S", 0.0)
    said: list[str] = []
    rows = sent(requests_of(workload_of(), spec_of(8, 6, 3), base=many, seed=1, say=said.append))
    assert list(rows[:, 0, 0, 0]) == [number % 256 for number in range(300)]
    assert said[0] == "workload 'w': IMAGE: 1 of 300 images are read"
    assert said[-1] == "workload 'w': IMAGE: 300 of 300 images are read"


GREENLETS = """
import sys
from gevent import monkey

monkey.patch_all()
import json
import time
from pathlib import Path

import gevent
from test_payloads_images import requests_of, spec_of, workload_of

turns = 0


def count():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)


gevent.spawn(count)
gevent.sleep(0)
before, failure, requests = turns, "", []
try:
    requests = requests_of(workload_of(), spec_of(600, 600, 3), base=Path(sys.argv[1]), seed=1)
except Exception as error:
    failure = str(error)
print(json.dumps({"requests": len(requests), "turns": turns - before, "failure": failure}))
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_greenlets_run_on_while_images_are_read(many: Path, damaged: bool) -> None:
    """Else a worker would not answer its master, which would take it for lost."""
    if damaged:
        (many / "images" / "150.png").write_text("no image")
    command = [sys.executable, "-c", GREENLETS, str(many)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    assert told["turns"] > 5, told
    assert told["requests"] == (0 if damaged else 300)
    assert ("150.png: cannot be read as an image" in told["failure"]) is damaged


def test_pillow_is_asked_for_when_it_is_missing(folder: Path) -> None:
    script = f"""if True:
        import sys
        sys.modules["PIL"] = None
        from pathlib import Path
        from tritonforge_client.extras import MissingExtraError
        from tritonforge_client.spec import ModelSpec, TensorSpec
        from tritonforge_generator.declared import declared_from_mapping
        from tritonforge_load.campaign import Workload
        from tritonforge_load.payloads import requests_of
        data = {{"name": "w", "model": "m", "inputs": {{"x": {{"images": "images"}}}}}}
        spec = ModelSpec(name="m", inputs=(TensorSpec(name="x", datatype="UINT8", dims=(8, 6, 3)),), outputs=())
        try:
            requests_of(declared_from_mapping(data, Workload, origin="test"), spec, base=Path({str(folder)!r}), seed=1)
        except MissingExtraError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "PIL is not installed; run: pip install 'tritonforge[load]'" in done.stdout


class TestLabelsByFileName:
    def check(self, folder: Path, table: str, *, output: NDArray[Any] | None = None) -> int:
        (folder / "labels.csv").write_text(table, encoding="utf-8")
        workload = workload_of(batch=2, labels="labels.csv")
        requests = requests_of(workload, spec_of(8, 6, 3), base=folder, seed=1)
        check = check_of(workload, requests, base=folder)
        assert check is not None
        answers = output if output is not None else np.eye(10)[[5, 7]]
        return sum(check.correct_rows(request, {"y": answers}, batched=True) for request in requests)

    @pytest.mark.parametrize("head", ["", "file,label\n", "\ufefffile, label\n"])
    def test_they_are_put_in_the_order_of_the_images(self, head: str, folder: Path) -> None:
        table = head + "d.png,7\nc.png,5\nother.png,1\na.png, 5\n\nb.PNG,0\n"
        # Both requests are answered 5, 7: right for a.png (5), c.png (5) and d.png (7), wrong for b.PNG (0).
        assert self.check(folder, table) == 3

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("a.png,1\nb.PNG,2\n", r"labels.csv: 2 of 4 images have no label, c.png the first. Add a line for each"),
            ("a.png,cat\n", r"labels.csv:1: expected file,label with a whole number, got a.png,cat"),
            ("a.png,1\nb.PNG\n", r"labels.csv:2: expected file,label with a whole number, got b.PNG"),
            ("a.png,1\na.png,2\n", r"labels.csv:2: a.png has a label already. Remove one"),
        ],
    )
    def test_refusals_name_the_line(self, table: str, message: str, folder: Path) -> None:
        with pytest.raises(SpecError, match=message):
            self.check(folder, table)

    def test_a_missing_table_is_named(self, folder: Path) -> None:
        workload = workload_of(labels="none.csv")
        requests = requests_of(workload, spec_of(8, 6, 3), base=folder, seed=1)
        with pytest.raises(SpecError, match=r"none.csv: cannot be read as CSV"):
            check_of(workload, requests, base=folder)


@pytest.mark.parametrize(
    ("inputs", "check", "message"),
    [
        ({"x": {"images": "a", "file": "b"}}, None, "expected random, values, images, file or package, got images and"),
        ({"x": {"images": "a", "pool": 3}}, None, r"inputs.x.pool: only random values have it. Remove it"),
        ({"x": {"file": "a.npz", "scale": 1}}, None, r"inputs.x.scale: only images have it. Remove it"),
        ({"x": {"file": "a.npz", "shape": [1]}}, None, r"inputs.x.shape: only random values, values and images have"),
        ({"x": {"file": "a.npy", "key": "k"}}, None, r"inputs.x.key: only .npz files have several arrays"),
        ({"x": {"images": "a", "mean": [1, 2], "std": [1]}}, None, r"inputs.x.std: expected 2 values, as mean has"),
        ({"x": {"images": "a", "std": [0.0]}}, None, r"inputs.x.std\[0\]: expected greater than 0"),
        ({"x": {"random": "normal", "high": 1}}, None, r"inputs.x.high: only uniform values have it"),
        ({"x": {"random": "uniform", "low": 2}}, None, r"inputs.x.high: expected above low \(2\), got nothing"),
        ({"x": {"random": "uniform", "high": 0}}, None, r"inputs.x.high: expected above low \(0\), got 0"),
        ({"x": {"values": []}}, None, r"inputs.x.values: expected at least 1 of them"),
        ({"x": {"values": [1]}}, {"labels": {"file": "a.npz"}}, "answers can only be compared for given inputs"),
        ({"x": {"file": "a.npz"}}, {"labels": {"file": "a.csv"}}, r"check.labels: labels by file name are for images"),
        ({"x": {"images": "a"}}, {"golden": {"file": "a.csv"}}, r"check.golden: expected an .npz or .npy file, got a"),
    ],
)  # fmt: skip
def test_the_campaign_file_refuses_what_cannot_be_meant(
    inputs: dict[str, Any], check: dict[str, Any] | None, message: str
) -> None:
    data = {"name": "w", "model": "m", "inputs": inputs}
    if check is not None:
        data["check"] = {"output": "y", **check}
    with pytest.raises(SpecError, match=message):
        declared_from_mapping(data, Workload, origin="test")
