"""Frames that are composed of several pictures, or of one: turned, cut, darkened, blurred or made small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.bench.marked_frames.canvas import Canvas, Read
from tests.bench.marked_frames.plain import PARTS

SPEAKERS = [name for name in PARTS if name.startswith("x_talk")]


def group_dark(read: Read) -> Canvas:
    canvas = Canvas(read, 960, 640)
    canvas.put("p_group4", 0, 0, 960, 640, mirror=True)
    canvas.gamma(2.2, 0.6)
    canvas.noise(5)
    return canvas


def group_turned(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720)
    canvas.put("p_group6", -200, -150, 1680, 1020, angle=20)
    return canvas


def multi_turned(read: Read) -> Canvas:
    canvas = Canvas(read, 1000, 640)
    canvas.put("p_multi", -160, -120, 1320, 880, angle=-20)
    return canvas


def men_turned40(read: Read) -> Canvas:
    canvas = Canvas(read, 720, 720, colour=(230, 230, 230))
    canvas.put("p_anchormen", 10, 170, 700, 394, angle=40)
    return canvas


def poker_motion(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720)
    canvas.put("p_poker", 0, 0, 1280, 720, crop=(0, 40, 1280, 720))
    canvas.motion(13)
    canvas.jpeg(25)
    return canvas


def poker_edge(read: Read) -> Canvas:
    canvas = Canvas(read, 640, 360)
    canvas.put("p_poker", 0, 0, 640, 360, crop=(60, 230, 860, 484))
    return canvas


def multi_edge(read: Read) -> Canvas:
    canvas = Canvas(read, 800, 450)
    canvas.put("p_multi", 0, 0, 800, 450, crop=(230, 190, 520, 292))
    return canvas


def crowd_wall(read: Read) -> Canvas:
    canvas = Canvas(read, 1920, 1080)
    canvas.grid(["p_group1", "p_group2", "p_group3", "p_group4", "p_group5", "p_group6"], 3, 2, gap=0)
    return canvas


def mixed_wall(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720)
    names = [
        "p_multi",
        "p_zidane",
        "p_silicon",
        "p_thai",
        "p_anchormen",
        "p_poker",
        "p_sofa",
        "p_group3",
        "v_statement1",
    ]
    canvas.grid(names, 3, 3, gap=4)
    return canvas


def wall16(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720)
    names = [
        "p_multi",
        "p_group2",
        "p_thai",
        "p_group5",
        "p_anchormen",
        "p_group4",
        "p_poker",
        "p_group3",
        "p_group6",
        "p_silicon",
        "p_group1",
        "v_statement2",
        "p_zidane",
        "p_sofa",
        "p_meal",
        "p_bus",
    ]
    canvas.grid(names, 4, 4, gap=2)
    canvas.jpeg(70)
    return canvas


def scatter(read: Read) -> Canvas:
    """Pictures, small and turned, over a brick wall, darker to the right."""
    canvas = Canvas(read, 1280, 720, ground="n_brick")
    names = ["p_group6", "p_thai", "p_anchormen", "p_group5", "p_multi", "p_group1", "p_group4", "p_group3"]
    random = np.random.RandomState(7)
    for index in range(8):
        x, y = 20 + (index % 4) * 310 + random.randint(0, 24), 60 + (index // 4) * 330 + random.randint(0, 30)
        canvas.put(
            names[index],
            x,
            y,
            230 + random.randint(0, 30),
            160 + random.randint(0, 20),
            angle=random.randint(-30, 31),
            mirror=bool(random.randint(2)),
        )
    canvas.image = (canvas.image * np.linspace(1.1, 0.35, 1280)[None, :, None]).clip(0, 255).astype(np.uint8)
    return canvas


def strip(read: Read) -> Canvas:
    canvas = Canvas(read, 640, 330, colour=(0, 0, 0))
    canvas.put("x_samples", 0, 0, 640, 160, crop=(0, 0, 640, 160))
    canvas.put("x_samples", 0, 168, 640, 160, crop=(640, 0, 640, 160))
    return canvas


def party(read: Read) -> Canvas:
    canvas = Canvas(read, 844, 632)
    canvas.put("x_samples", 0, 0, 844, 632, crop=(911, 0, 211, 158))
    return canvas


def bar(read: Read) -> Canvas:
    canvas = Canvas(read, 800, 600)
    canvas.put("x_detect", 0, 0, 800, 600, crop=(306, 93, 200, 150))
    return canvas


def five(read: Read) -> Canvas:
    canvas = Canvas(read, 800, 350, colour=(0, 0, 0))
    canvas.put("x_detect", 7, 180, 785, 160, crop=(7, 344, 785, 160))
    canvas.put("x_detect", 7, 8, 300, 163, crop=(500, 90, 300, 163))
    return canvas


def small_wall(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720, ground="n_leuven")
    names = ["p_multi", "p_silicon", "p_thai", "p_group6", "p_anchormen", "p_group4", "p_poker", "p_group1"]
    for index, name in enumerate(names):
        canvas.put(name, 20 + (index % 4) * 315, 60 + (index // 4) * 330, 270, 170, angle=(-8, 6, 10, -5)[index % 4])
    return canvas


def match(read: Read) -> Canvas:
    canvas = Canvas(read, 960, 480)
    canvas.put("x_match", 0, 0, 960, 480, crop=(0, 130, 960, 480))
    return canvas


def heads(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720, colour=(120, 70, 40))
    canvas.put("x_franck1", 20, 30, 400, 320, angle=20)
    canvas.put("x_franck2", 440, 40, 400, 320, angle=-40)
    canvas.put("x_franck3", 860, 30, 400, 320, angle=40)
    canvas.put("x_su", 60, 390, 300, 300, angle=-20)
    canvas.put("x_di", 480, 395, 290, 290, angle=40)
    canvas.put("x_bieber", 900, 380, 290, 310, angle=-40)
    return canvas


def portraits(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720)
    names = [
        "x_cage",
        "x_hao",
        "x_obama",
        "x_luis",
        "x_anc",
        "p_audrey",
        "x_maher",
        "x_di",
        "p_hopper",
        "x_pair",
        "k_astronaut",
        "x_phone1",
        "p_guido",
        "x_su",
        "x_bieber",
        "p_lena",
        "x_phone2",
        "p_henner",
    ]
    canvas.grid(names, 6, 3, gap=8)
    return canvas


def people_far(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720, ground="n_plant")
    for index, (name, crop) in enumerate(
        [
            ("p_obama_far", None),
            ("p_biden", None),
            ("p_obama_stage", None),
            ("p_bus", (0, 380, 420, 560)),
            ("p_hopper", None),
            ("p_audrey", None),
            ("p_single", None),
        ]
    ):
        canvas.put(name, 30 + index * 178, 420 if index % 2 else 60, 130, 240, crop=crop)
    return canvas


def thai_dark(read: Read) -> Canvas:
    canvas = Canvas(read, 1024, 576)
    canvas.put("p_thai", 0, 0, 1024, 576, mirror=True)
    canvas.gamma(1.6, 0.35)
    canvas.noise(4)
    return canvas


def group_lowres(read: Read) -> Canvas:
    canvas = Canvas(read, 360, 240)
    canvas.put("p_group3", 0, 0, 360, 240)
    canvas.jpeg(40)
    canvas.enlarge(960, 640)
    return canvas


def group_blur(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 853)
    canvas.put("p_group2", 0, 0, 1280, 853, mirror=True)
    canvas.blur(4)
    return canvas


def none_table(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 326)
    canvas.put("p_poker", 0, 0, 1280, 326, crop=(0, 560, 1280, 326))
    return canvas


def none_legs(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 500)
    canvas.put("p_group4", 0, 0, 1280, 500, crop=(0, 698, 1920, 750))
    return canvas


def none_back(read: Read) -> Canvas:
    canvas = Canvas(read, 640, 480)
    canvas.put("v_walkers2", 0, 0, 640, 480, crop=(290, 375, 120, 90))
    return canvas


def call20(read: Read) -> Canvas:
    canvas = Canvas(read, 1280, 720)
    canvas.grid(SPEAKERS[:20], 5, 4, gap=6)
    return canvas


def call40(read: Read) -> Canvas:
    canvas = Canvas(read, 1920, 1080)
    others = ["x_su", "x_hao", "x_anc", "x_di", "x_cage", "x_luis", "x_bieber", "p_henner", "x_maher", "s_acted"]
    names = [*SPEAKERS[20:], *others, *SPEAKERS[:20]]
    canvas.grid(names, 8, 5, gap=40)
    return canvas


_FUNCTIONS: tuple[Callable[[Read], Canvas], ...] = (
    group_dark,
    group_turned,
    multi_turned,
    men_turned40,
    poker_motion,
    poker_edge,
    multi_edge,
    crowd_wall,
    mixed_wall,
    wall16,
    scatter,
    strip,
    party,
    bar,
    five,
    small_wall,
    match,
    heads,
    portraits,
    people_far,
    thai_dark,
    group_lowres,
    group_blur,
    none_table,
    none_legs,
    none_back,
    call20,
    call40,
)
COMPOSED = {f"c_{function.__name__}": function for function in _FUNCTIONS}
SHARED = {"c_call20", "c_call40"}  # made of shared clips
