"""Each picture is what its name says as far as pixels tell, and always the same."""

from typing import Any

from rewards.geneval.drawings import SIZE, draw_objects
from rewards.geneval.objects import OBJECTS


def test_pictures_are_of_things_the_detector_knows():
    pictures = draw_objects()
    assert set(pictures) <= set(OBJECTS)
    assert {image.size for image in pictures.values()} == {(SIZE, SIZE)}
    assert {image.mode for image in pictures.values()} == {"RGB"}
    assert {name: image.tobytes() for name, image in draw_objects().items()} == {
        name: image.tobytes() for name, image in pictures.items()
    }


def test_the_stop_sign_is_red_the_ball_and_the_fruit_orange_and_the_dial_white():
    pictures: Any = draw_objects()
    red, green, blue = pictures["stop sign"].getpixel((256, 120))
    assert red > 150 > 60 > max(green, blue)
    for name in ("sports ball", "orange"):
        red, green, blue = pictures[name].getpixel((280, 300))
        assert red > green > blue
    assert min(pictures["clock"].getpixel((256, 330))) > 230
