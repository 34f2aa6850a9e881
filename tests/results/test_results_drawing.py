"""Images: what is drawn is where it should be, at any size, and nothing crashes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from results_samples import BOXES, NAMES, POINTS, SCHEMA

from yolopose.base.errors import DependencyError, UsageError
from yolopose.results import Results, plotting, text
from yolopose.results.palette import CENTER, LEFT, RIGHT, color_for, keypoint_colors, text_color_on
from yolopose.results.skeletons import drawable_points
from yolopose.schema import COCO_PERSON_FLIP, COCO_PERSON_NAMES, KeypointSchema


def big(points=None, boxes=((100, 100, 500, 900, 0.9, 0),), img=None, **more):
    """A result of a 1000 × 1000 gray image, where points have a radius of 5 pixels."""
    img = np.full((1000, 1000, 3), 100, np.uint8) if img is None else img
    boxes = None if boxes is None else np.array(boxes, np.float32)
    points = None if points is None else np.array(points, np.float32)
    return Results(img, "a.jpg", NAMES, boxes=boxes, keypoints=points, **more)


def without_pillow(monkeypatch):
    for name in ("PIL", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont"):
        monkeypatch.setitem(sys.modules, name, None)


def pixel(img, x, y):
    return tuple(int(value) for value in img[int(y), int(x)])


PERSON = [[[200, 300, 0.9], [300, 200, 0.9], [400, 700, 0.9]]]


def test_positions_of_keypoints_limbs_and_box():
    img = big(PERSON, schema=SCHEMA).plot()
    assert pixel(img, 200, 300) == LEFT
    assert pixel(img, 300, 200) == CENTER
    assert pixel(img, 400, 700) == RIGHT
    assert pixel(img, 250, 250) == LEFT  # halfway along the limb
    assert pixel(img, 350, 450) == RIGHT
    for place in ((100, 500), (499, 500), (300, 899)):
        assert pixel(img, *place) == color_for(0)
    assert pixel(img, 450, 300) == (100, 100, 100)
    assert pixel(img, 700, 700) == (100, 100, 100)


def test_drawing_switches():
    result = big(PERSON, schema=SCHEMA)
    assert pixel(result.plot(kpt_line=False), 250, 250) == (100, 100, 100)
    assert pixel(result.plot(boxes=False), 100, 500) == (100, 100, 100)
    assert pixel(result.plot(boxes=False), 200, 300) == LEFT
    label = (slice(70, 96), slice(100, 250))
    assert (result.plot()[label] != 100).any()
    assert not (result.plot(labels=False)[label] != 100).any()
    assert (result.plot()[label] != 100).sum() > (result.plot(conf=False)[label] != 100).sum()
    assert pixel(result.plot(line_width=21), 109, 500) == color_for(0)
    assert pixel(result.plot(kpt_radius=20), 415, 700) == RIGHT
    assert pixel(result.plot(), 415, 700) == (100, 100, 100)
    assert not np.shares_memory(result.plot(), result.orig_img)
    assert (result.orig_img == 100).all()


def test_skips_uncertain_keypoints_and_limbs():
    unsure = [[[200, 300, 0.9], [300, 200, 0.24], [400, 700, 0.9]]]
    result = big(unsure, schema=SCHEMA)
    img = result.plot()
    assert (img == result.plot(kpt_line=False)).all()
    assert pixel(img, 300, 200) == pixel(img, 250, 250) == (100, 100, 100)
    assert pixel(img, 200, 300) == LEFT


@pytest.mark.parametrize(
    ("point", "shown"),
    [
        ((0, 0), False),
        ((5, 0), True),
        ((0, 5), True),
        ((-1, 5), False),
        ((200, 100), True),
        ((201, 5), False),
        ((np.nan, 5), False),
    ],
)
def test_drawable_points(point, shown):
    assert drawable_points(np.array([point], float), 100, 200).tolist() == [shown]
    assert drawable_points(np.array([(*point, 0.25)]), 100, 200).tolist() == [shown]
    assert drawable_points(np.array([(*point, 0.2)]), 100, 200).tolist() == [False]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("count", [1, 17, 294])
def test_any_number_of_keypoints(count, dims):
    rng = np.random.default_rng(0)
    points = rng.uniform(100, 900, (2, count, dims))
    points[..., 2:] = 0.9
    boxes = np.array([[100, 100, 900, 900, 0.9, 0]] * 2)
    img = big(points, boxes, schema=KeypointSchema(count=count, dims=dims)).plot(labels=False)
    x, y = points[0, -1, :2]
    assert pixel(img, x, y) != (100, 100, 100)
    assert (big(points, None).plot() != 100).any()


def test_17_unknown_keypoints_are_a_person():
    points = np.full((1, 17, 3), [0, 0, 0.9])
    points[0, 5], points[0, 6] = [200, 300, 0.9], [400, 300, 0.9]
    assert pixel(big(points).plot(boxes=False), 300, 300) == CENTER  # from shoulder to shoulder


def test_instance_colors():
    boxes = [[100, 100, 500, 900, 0.9, 0], [600, 100, 900, 900, 0.9, 0]]
    points = np.array([PERSON[0], PERSON[0]]) + np.array([[[0, 0, 0]], [[400, 0, 0]]])
    result = big(points, boxes, schema=SCHEMA)
    by_class, by_instance = result.plot(), result.plot(color_mode="instance")
    assert pixel(by_class, 100, 500) == pixel(by_class, 600, 500) == color_for(0)
    assert (pixel(by_instance, 100, 500), pixel(by_instance, 600, 500)) == (color_for(0), color_for(1))
    assert (pixel(by_instance, 250, 250), pixel(by_instance, 650, 250)) == (color_for(0), color_for(1))
    tracks = big(points, np.insert(boxes, 4, [8, 5], axis=1), schema=SCHEMA).plot(color_mode="instance")
    assert (pixel(tracks, 100, 500), pixel(tracks, 600, 500)) == (color_for(8), color_for(5))


def test_keypoint_colors():
    person = keypoint_colors(COCO_PERSON_NAMES, ((5, 6), (5, 7), (0, 2)))
    assert person.points[:3] == (CENTER, LEFT, RIGHT)
    assert person.edges == (CENTER, LEFT, RIGHT)
    assert keypoint_colors(("snout", "leftear", "ear_R", "eyeL"), ()).points == (CENTER, LEFT, RIGHT, LEFT)
    hues = keypoint_colors(tuple(f"keypoint {i}" for i in range(50)), ((0, 1),))
    assert len(set(hues.points)) == 50
    assert len({color_for(index) for index in range(80)}) == 80
    assert text_color_on((255, 255, 255), (255, 255, 255)) != (255, 255, 255)


def test_labels_do_not_overlap():
    """Two boxes with nearly the same upper corner: the second label finds another place."""
    one = big(None, [[100, 100, 500, 900, 0.9, 0]]).plot()
    two = big(None, [[100, 100, 500, 900, 0.9, 0], [104, 103, 500, 905, 0.8, 0]]).plot()
    area = (slice(70, 98), slice(100, 180))
    assert (one[area] == two[area]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (12, 7), (3000, 4000), (60, 40000)])
def test_any_image_size(size):
    h, w = size
    img = np.full((h, w, 3), 100, np.uint8)
    box = [[0.1 * w, 0.1 * h, 0.9 * w, 0.9 * h, 0.9, 0], [0, 0, w, h, 0.8, 1], [-9e9, -9e9, 9e9, 9e9, 0.5, 0]]
    points = np.array([[[0.5 * w, 0.5 * h, 0.9], [0.2 * w, 0.2 * h, 0.9], [w, h, 0.9]]] * 3)
    img = big(points, box, img, schema=SCHEMA).plot()
    assert img.shape == (h, w, 3)
    assert (img != 100).any()


@pytest.mark.parametrize(
    "row", [[np.nan] * 4, [np.inf] * 4, [2000, 2000, 2100, 2100], [-50, -50, -5, -5], [9, 9, 9, 9]]
)
def test_degenerate_boxes(row):
    assert big(np.full((1, 3, 3), np.nan), [[*row, 0.9, 0]]).plot().shape == (1000, 1000, 3)


@pytest.mark.parametrize(
    "img",
    [
        np.full((100, 200), 7, np.uint8),
        np.full((100, 200, 1), 7, np.uint8),
        np.full((100, 200, 4), 7, np.uint8),
        np.full((100, 200, 3), 7 * 256 + 99, np.uint16),
        np.full((100, 200, 3), 7 / 255, np.float32),
        np.asfortranarray(np.full((100, 200, 3), 7, np.uint8)),
        np.full((200, 400, 6), 7, np.uint8)[::2, ::2, ::-2],
    ],
    ids=["gray", "gray1", "bgra", "uint16", "float", "fortran", "strided"],
)
def test_image_types(make, img):
    before = img.copy()
    drawn = make(img=img).plot()
    assert (drawn.shape, drawn.dtype) == ((100, 200, 3), np.uint8)
    assert pixel(drawn, 195, 95) == (7, 7, 7)
    assert (drawn != 7).any()
    assert (img == before).all()


@pytest.mark.parametrize(
    ("schema", "names", "limbs"),
    [
        (None, {0: "thing"}, True),
        (KeypointSchema(count=17), {0: "person"}, True),
        (KeypointSchema(count=17), {0: "horse"}, False),
        (KeypointSchema(count=17, flip_idx=COCO_PERSON_FLIP), {0: "player"}, True),
        (KeypointSchema(count=17, flip_idx=tuple(range(17))), {0: "person"}, False),
        (KeypointSchema(count=17, names={0: tuple("abcdefghijklmnopq")}), {0: "person"}, False),
    ],
)
def test_only_persons_get_the_coco_skeleton(schema, names, limbs):
    points = np.full((1, 17, 3), [0, 0, 0.9])
    points[0, 5, :2], points[0, 7, :2] = (300, 300), (300, 700)  # left shoulder and elbow
    result = big(points, None, schema=schema)
    result.names = names
    assert (pixel(result.plot(boxes=False), 300, 500) != (100, 100, 100)) == limbs


def test_draws_on_another_image(make):
    """Drawing on an image twice as large puts everything at twice the place."""
    canvas = np.full((2000, 2000, 3), 100, np.uint8)
    img = big(PERSON, schema=SCHEMA).plot(img=canvas)
    assert pixel(img, 400, 600) == LEFT
    assert pixel(img, 200, 1000) == color_for(0)


@pytest.mark.parametrize("img", [np.zeros((2, 3, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((1, 2, 2, 3))])
def test_unreadable_image_is_drawn_as_text(make, img):
    with pytest.raises(UsageError, match="image to draw on"):
        make().plot(img=img)


@pytest.mark.parametrize("bad", [{"color_mode": "rainbow"}, {"line_width": 0}, {"font_size": -1}, {"kpt_radius": 0}])
def test_refuses_invalid_values(make, bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        make().plot(**bad)


def test_pil(make, monkeypatch):
    image = make().plot(pil=True)
    assert np.array_equal(np.asarray(image)[..., ::-1], make().plot())
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DependencyError, match="pip install pillow"):
        make().plot(pil=True)


@pytest.mark.parametrize("version", ["4.9.0", "5.0.0"])
@pytest.mark.parametrize("pillow", [True, False])
def test_non_ascii_names(monkeypatch, version, pillow):
    monkeypatch.setattr(cv2, "__version__", version)
    if not pillow:
        without_pillow(monkeypatch)
    result = big(None)
    result.names = {0: "Größe 人"}
    label = result.plot()[70:98, 100:250]
    assert (label != 100).any()
    pen = text.get_text_writer(["Größe 人"], 20)
    ascii_only = isinstance(pen, text.OpenCVText) and pen.measure("ö") == pen.measure("?") == pen.measure("ж")
    assert ascii_only == (version == "4.9.0" and not pillow)


def test_fonts(make, monkeypatch):
    with pytest.raises(UsageError, match=r"nosuch\.ttf"):
        make().plot(font="nosuch.ttf")
    without_pillow(monkeypatch)
    with pytest.raises(DependencyError, match="pip install pillow"):
        make().plot(font="nosuch.ttf")


def test_save_and_notebook(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = make()
    assert result.save() == "results_bus.jpg"
    target = tmp_path / "näme" / "a.PNG"
    assert result.save(target, labels=False) == str(target)
    assert np.array_equal(np.asarray(Image.open(target))[..., ::-1], result.plot(labels=False))
    result.plot(save=True, filename="b.png")
    assert (tmp_path / "b.png").read_bytes() == result._repr_png_()
    for name in ("a.txt", "a"):
        with pytest.raises(UsageError, match=r"\.jpg or \.png"):
            result.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "näme", "results_bus.jpg"]


def test_show_explains_how_to_save(make, monkeypatch):
    warnings = []
    monkeypatch.setattr(plotting, "warn_once", warnings.append)
    monkeypatch.setattr(plotting, "_opencv_has_windows", lambda: False)
    assert not make().show()
    assert not make().show(wait=False)
    assert ["result.save(" in warning for warning in warnings] == [True, True]
    monkeypatch.setattr(plotting, "_opencv_has_windows", lambda: True)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "no display" in plotting.why_no_window()


def test_show_in_a_notebook(make, monkeypatch, capsys):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=object()))
    assert make().show()
    assert shown[0].data.startswith(b"\x89PNG")


def test_show_opens_a_window(make, monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "why_no_window", lambda: "")
    for name in ("namedWindow", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, img: shown.append((title, img.shape)))
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 0.0)  # the user has closed it
    assert make().show()
    assert make(BOXES[:1], POINTS[:1]).plot(show=True).shape == (100, 200, 3)
    assert shown == [("folder/bus.jpg", (100, 200, 3))] * 2


RED, BLUE, GREEN = (0, 0, 255), (255, 0, 0), (0, 255, 0)
TRIANGLE = [[[200, 300, 0.9], [400, 300, 0.4], [300, 700, 0.1]]]


def has_color(image, color):
    return bool((image == color).all(axis=2).any())


def test_threshold_of_keypoints():
    result = big(TRIANGLE, schema=KeypointSchema(count=3))
    drawn = {limit: result.plot(kpt_conf=limit, boxes=False) for limit in (0.0, 0.25, 0.5, 1.0)}
    places = [(300, 200), (300, 400), (700, 300)]
    counts = [sum((image[place] != 100).any() for place in places) for image in drawn.values()]
    assert counts == [3, 2, 1, 0]
    np.testing.assert_array_equal(drawn[0.25], result.plot(boxes=False))
    with pytest.raises(UsageError, match="kpt_conf"):
        result.plot(kpt_conf=2)


def test_colors_of_keypoints_and_limbs():
    schema = KeypointSchema(count=3, names={0: ("a", "b", "c")})
    result = big(TRIANGLE, schema=schema)
    plain = result.plot(kpt_conf=0, boxes=False, kpt_colors=[RED, BLUE])
    assert [plain[place].tolist() for place in ((300, 200), (300, 400), (700, 300))] == [
        list(RED), list(BLUE), list(RED)
    ]  # fmt: skip
    for skeleton in ([(0, 1)], [("a", "b")]):
        image = result.plot(kpt_conf=0, boxes=False, skeleton=skeleton, limb_colors=[GREEN])
        assert has_color(image[:, 280:320], GREEN)
    assert not has_color(result.plot(kpt_conf=0, boxes=False, skeleton=[], limb_colors=[GREEN]), GREEN)
    for wrong in ([(0, 3)], [("a", "z")], [(0, 1, 2)]):
        with pytest.raises(UsageError, match="skeleton has"):
            result.plot(skeleton=wrong)


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        (RED, [RED, RED]),
        ([RED, BLUE], [RED, BLUE]),
        ([RED], [RED, RED]),
        ({"thing": GREEN}, [None, GREEN]),
        ({0: BLUE, 1: GREEN}, [BLUE, GREEN]),
    ],
)
def test_colors_of_classes(colors, expected):
    boxes = [[100, 100, 300, 300, 0.9, 0], [500, 500, 800, 800, 0.9, 1]]
    result = Results(
        np.full((1000, 1000, 3), 100, np.uint8), "a.jpg", {0: "person", 1: "thing"}, boxes=np.array(boxes, np.float32)
    )
    image = result.plot(labels=False, colors=colors)
    for place, color in zip(((200, 100), (600, 500)), expected, strict=True):
        if color is not None:
            assert image[place].tolist() == list(color)


@pytest.mark.parametrize("wrong", [{"colors": "red"}, {"colors": [(1, 2)]}, {"kpt_colors": [(300, 0, 0)]}])
def test_refuses_what_is_not_a_color(wrong):
    with pytest.raises(UsageError, match="a color is 3 numbers"):
        big(TRIANGLE).plot(**wrong)


def test_names_of_keypoints():
    result = big(TRIANGLE, schema=KeypointSchema(count=3, names={0: ("nose", "ear", "tail")}))
    plain = result.plot(boxes=False)
    named = result.plot(boxes=False, kpt_names=True)
    assert (named != plain).any()
    assert (result.plot(boxes=False, kpt_names=["x", "y", "z"]) != named).any()
    numbers = big(TRIANGLE, schema=KeypointSchema(count=3)).plot(boxes=False, kpt_names=True)
    assert (numbers != big(TRIANGLE, schema=KeypointSchema(count=3)).plot(boxes=False)).any()
    with pytest.raises(UsageError, match="2 names for 3 keypoints"):
        result.plot(kpt_names=["x", "y"])
