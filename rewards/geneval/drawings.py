"""Pictures of plain objects, drawn here, to show to a detector of photographs.

They carry what such an object is told by (an octagon with STOP on a pole, a dial with hands), on ground and sky. That a
good detector sees them is likely and not certain: nobody has tried these on the published weights.
"""

import math
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 512
_FINE = 1024  # drawn at twice the size, for smooth edges
_MIDDLE = _FINE // 2


def draw_objects() -> dict[str, Image.Image]:
    """One picture a name, RGB, SIZE x SIZE."""
    return {name: _draw(paint) for name, paint in _PAINTERS.items()}


def _draw(paint: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    """On a sky that grows paler downwards and a ground that grows darker."""
    shades = Image.linear_gradient("L").resize((_FINE, _FINE))
    image = Image.composite(
        Image.new("RGB", shades.size, (205, 225, 240)), Image.new("RGB", shades.size, (95, 150, 215)), shades
    )
    ground = Image.composite(
        Image.new("RGB", shades.size, (60, 75, 45)), Image.new("RGB", shades.size, (125, 135, 90)), shades
    )
    image.paste(ground.crop((0, 0, _FINE, 260)), (0, _FINE - 260))
    paint(ImageDraw.Draw(image))
    return image.filter(ImageFilter.GaussianBlur(1.5)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _stop_sign(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle((490, 500, 534, 1024), fill=(125, 128, 130))
    for radius, colour in ((330, (245, 245, 245)), (305, (190, 25, 35))):
        corners = [math.radians(22.5 + 45 * corner) for corner in range(8)]
        pen.polygon([(512 + radius * math.cos(a), 400 + radius * math.sin(a)) for a in corners], fill=colour)
    font = ImageFont.load_default(size=205)
    pen.text((512, 400), "STOP", fill=(250, 250, 250), font=font, anchor="mm", stroke_width=5, stroke_fill="white")


def _clock(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle((0, 0, _FINE, _FINE), fill=(214, 205, 190))
    for radius, colour in ((400, (60, 45, 35)), (355, (250, 249, 244))):
        pen.circle((_MIDDLE, _MIDDLE), radius, fill=colour)
    font = ImageFont.load_default(size=70)
    for hour in range(1, 13):
        pen.text(_on_dial(hour / 12, 285), str(hour), fill=(20, 20, 20), font=font, anchor="mm")
    for minute in range(60):
        pen.line((*_on_dial(minute / 60, 330), *_on_dial(minute / 60, 350)), fill=(20, 20, 20), width=5)
    pen.line((_MIDDLE, _MIDDLE, *_on_dial(10.15 / 12, 170)), fill=(15, 15, 15), width=24)
    pen.line((_MIDDLE, _MIDDLE, *_on_dial(9 / 60, 255)), fill=(15, 15, 15), width=15)
    pen.circle((_MIDDLE, _MIDDLE), 20, fill=(15, 15, 15))


def _traffic_light(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle((488, 600, 536, 1024), fill=(70, 70, 72))
    pen.rounded_rectangle((372, 90, 652, 790), radius=50, fill=(32, 32, 30))
    for height, colour in ((215, (245, 45, 35)), (440, (75, 60, 20)), (665, (20, 60, 35))):
        pen.circle((_MIDDLE, height), 98, fill=(14, 14, 14))
        pen.circle((_MIDDLE, height), 86, fill=colour)


def _sports_ball(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse((230, 800, 800, 900), fill=(50, 62, 38))
    pen.circle((_MIDDLE, 560), 300, fill=(214, 106, 38), outline=(40, 25, 15), width=9)
    pen.line((212, 560, 812, 560), fill=(40, 25, 15), width=9)
    pen.line((512, 260, 512, 860), fill=(40, 25, 15), width=9)
    pen.arc((-70, 280, 370, 840), -50, 50, fill=(40, 25, 15), width=9)
    pen.arc((654, 280, 1094, 840), 130, 230, fill=(40, 25, 15), width=9)


def _orange(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle((0, 0, _FINE, _FINE), fill=(232, 228, 220))
    pen.rectangle((0, 640, _FINE, _FINE), fill=(150, 112, 76))
    pen.ellipse((250, 800, 800, 890), fill=(105, 76, 50))
    for step in range(60):
        shade = (205 + 50 * step // 60, 95 + 70 * step // 60, 10 + 40 * step // 60)
        pen.circle((_MIDDLE - step, 570 - step), 290 - 4 * step, fill=shade)
    pen.circle((520, 305), 14, fill=(70, 90, 30))
    pen.polygon([(525, 300), (600, 215), (700, 225), (620, 300)], fill=(60, 120, 45))


def _on_dial(turn: float, radius: float) -> tuple[float, float]:
    """The point at a share of a whole turn, clockwise from the top."""
    angle = 2 * math.pi * turn
    return _MIDDLE + radius * math.sin(angle), _MIDDLE - radius * math.cos(angle)


_PAINTERS = {
    "stop sign": _stop_sign,
    "clock": _clock,
    "traffic light": _traffic_light,
    "sports ball": _sports_ball,
    "orange": _orange,
}
