"""Procedural drawings of faces with cues of age at several scales.

The cues are wrinkles and skin texture (one or two pixels wide), grey and receding hair, sagging, and the
proportions of children. Each cue is shifted by its own random number of years, per person and per image, so
that no cue determines the age alone. Colour and brightness of the image are nearly independent of age. Gender
and race have other, overlapping cues.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.images import Image
from mtmsa_lightning.data.synthetic.shapes import (
    CANVAS,
    EVERYWHERE,
    Box,
    Canvas,
    Points,
    arc,
    fixed_point,
    line_mask,
    region_mask,
    smooth,
    top_left,
)
from mtmsa_lightning.data.synthetic.subjects import GREY, Colour, Cues, Subject, age_cues
from mtmsa_lightning.settings.defaults import SYNTHETIC_SIDE


def draw_face(subject: Subject, age: float, picture_seed: int, size: int = SYNTHETIC_SIDE) -> Image:
    """Draw one image of a person at an age in years.

    Args:
        subject: The person.
        age: Age in years.
        picture_seed: Seed of pose, light, background and noise.
        size: Side of the image in pixels.

    Returns:
        RGB, uint8, shape (size, size, 3).
    """
    rng = np.random.default_rng([picture_seed, 77])
    cues = age_cues(subject, age, rng)
    face = _Face(subject, cues, rng)
    return photograph(face.draw(), rng, size)


class _Face:
    """A drawing in progress. Coordinates: pixels of the canvas, face centre (100, 106)."""

    def __init__(self, subject: Subject, cues: Cues, rng: np.random.Generator) -> None:
        self.subject, self.cues, self.rng = subject, cues, rng
        self.canvas: Canvas = np.zeros((CANVAS, CANVAS, 3), np.float32)
        child = 1 - cues.growth
        self.half_width = 50 * subject.width * (1 + 0.06 * child)
        self.half_height = 64 - 13 * child
        self.centre = np.array([100.0, 106.0])
        self.eye_y = 104 + 7 * child  # children have a large forehead
        self.eye_dx = 21.5 * subject.width
        self.mouth_y = self.eye_y + 38 - 8 * child
        self.skin_mask = np.zeros((CANVAS, CANVAS), np.float32)

    def draw(self) -> Canvas:
        """Draw all parts, back to front, and return the canvas."""
        for part in (
            self.background, self.hair_behind, self.head, self.eyes, self.nose_and_mouth, self.lines,
            self.skin_texture, self.hair_on_top, self.glasses,
        ):  # fmt: skip
            part()
        return self.canvas

    # ------------------------------------------------------------ outlines

    def outline(self, grow: float = 1.0) -> Points:
        """Return the outline of the head; the jaw narrows the lower half."""
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        x, y = np.cos(angle), np.sin(angle)
        narrow = 1 - self.subject.jaw * np.clip(y, 0, 1) ** 1.6 * (0.45 + 0.55 * self.cues.growth)
        narrow = narrow + 0.10 * self.cues.sag * np.clip(y, 0, 1) ** 2  # jowls
        shape = np.stack([x * narrow * self.half_width, y * self.half_height], 1)
        return self.centre + shape * grow

    def fill(self, points: Points, colour: Any, blur: float = 0.0, alpha: float = 1.0) -> NDArray[np.float32]:
        """Paint a polygon and return its mask, 0 to 1."""
        mask, box = region_mask(points, 2 + 3 * blur)
        cv2.fillPoly(mask, [fixed_point(points - top_left(box))], 255, cv2.LINE_AA, shift=4)
        whole = np.zeros((CANVAS, CANVAS), np.float32)
        whole[box] = self.paint(mask, box, colour, blur, alpha)
        return whole

    def stroke(
        self, points: Points, colour: Any, width: int = 1, blur: float = 0.6, alpha: float = 1.0
    ) -> None:
        """Paint a line."""
        mask, box = line_mask(points, width, 2 + width + 3 * blur)
        self.paint(mask, box, colour, blur, alpha)

    def paint(self, mask: Any, box: Box, colour: Any, blur: float, alpha: float) -> NDArray[np.float32]:
        """Blend a colour into a box of the canvas by a mask; return the mask's opacity."""
        if not mask.size:
            return np.zeros(mask.shape, np.float32)
        if blur:
            mask = cv2.GaussianBlur(mask, (0, 0), blur)
        opacity = np.asarray(mask, np.float32) * np.float32(alpha / 255)
        part = self.canvas[box]
        part += opacity[..., None] * (np.asarray(colour, np.float32) - part)
        return opacity

    # ------------------------------------------------------------ parts, back to front

    def background(self) -> None:
        """A smooth wall and clothes of any colour."""
        shade = self.rng.uniform(70, 205) + self.rng.normal(0, 16, 3)
        corners = shade + self.rng.normal(0, 22, (3, 3, 1)) + self.rng.normal(0, 5, (3, 3, 3))
        corners = corners.astype(np.float32)
        self.canvas[:] = cv2.resize(corners, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
        self.fill(arc(100, 214, 82, 46), self.rng.uniform(30, 220, 3), blur=1)

    def hair_behind(self) -> None:
        """Long hair, behind the head."""
        if self.subject.long_hair:
            wave = self.rng.normal(0, 2, 2)
            shape = arc(100, 122, self.half_width * 1.32 + wave[0], 78 + wave[1])
            self.strands(self.fill(shape, self.hair_colour() * 0.8, blur=1))

    def head(self) -> None:
        """Neck, ears and a shaded head."""
        skin = self.subject.skin
        self.fill(arc(100, 176, 25, 34), skin * 0.78, blur=1.5)
        for side in (-1, 1):
            ear = arc(100 + side * self.half_width * 0.99, self.eye_y + 8, 7, 12)
            self.fill(ear, skin * 0.87, blur=0.8)
        self.skin_mask = self.fill(self.outline(), skin, blur=0.8)
        y, x = np.mgrid[:CANVAS, :CANVAS].astype(np.float32)
        distance = ((x - 100) / self.half_width) ** 2 + ((y - 104) / self.half_height) ** 2
        rounding = 1.06 - 0.20 * np.clip(distance, 0, 1.3) ** 1.5
        self.canvas *= 1 + self.skin_mask[..., None] * (rounding[..., None] - 1)
        for side in (-1, 1):
            cheek = arc(100 + side * 27, self.eye_y + 25, 12, 9)
            self.fill(cheek, skin * [1.06, 0.82, 0.8], blur=6, alpha=0.35)

    def eyes(self) -> None:
        """Eyes, lids and brows."""
        s, cues = self.subject, self.cues
        width = 11.5 * s.eye * (1 + 0.38 * (1 - cues.growth))
        height = width * (0.56 - 0.24 * s.slant - 0.12 * cues.sag)
        colours = [[58, 40, 28], [38, 28, 22], [86, 108, 128], [90, 96, 62]]
        iris = self.rng.choice(colours, p=[0.4, 0.4, 0.12, 0.08])
        for side in (-1, 1):
            x, y = 100 + side * self.eye_dx, self.eye_y
            self.fill(arc(x, y, width * 1.25, height * 1.7), s.skin * 0.84, blur=2.5, alpha=0.6)
            white = self.fill(arc(x, y, width, height), [236, 232, 228], blur=0.5)
            ball, box = region_mask(arc(x, y, width, height), 3)
            centre = np.array([x, y]) - top_left(box)
            for radius, shade in ((height * 0.98, 255), (height * 0.5, 120)):
                cv2.circle(ball, fixed_point(centre).tolist(), round(radius * 16), shade, -1, cv2.LINE_AA, 4)
            inside = np.where(white[box] > 0.4, ball, 0)
            self.paint((inside > 0) * np.uint8(255), box, iris, 0.5, 0.95)
            self.paint((inside == 120) * np.uint8(255), box, [12, 10, 10], 0.4, 1)
            self.fill(arc(x - 2, y - 2, 1.3, 1.3), [250, 250, 250])
            self.stroke(arc(x, y, width * 1.08, height * 1.12, 190, 350), s.skin * 0.25, 2, 0.5)
            self.stroke(arc(x, y - 3.5, width * 1.15, height * 1.2, 200, 340), s.skin * 0.6, 1, 0.6, 0.7)
            brow_y = y - height - 8.5 - 2 * (1 - cues.growth)
            tilt = np.array([[-14 * side, 2.5], [0, -2], [13 * side, 1.5 + 2.5 * cues.sag]])
            colour = s.hair * 0.8 + (GREY - s.hair * 0.8) * 0.6 * cues.grey
            thick = max(1, round(s.brow * (0.6 + 0.4 * cues.growth)))
            self.stroke(tilt + np.array([x, brow_y]), colour, thick, 0.9, 0.85)

    def nose_and_mouth(self) -> None:
        """Nose and lips; lips thin and lose colour with age."""
        s, cues = self.subject, self.cues
        tip = self.eye_y + 23 * (0.72 + 0.28 * cues.growth) + 2 * cues.sag
        wing = 7.6 * s.nose * (0.8 + 0.2 * cues.growth)
        for side in (-1, 1):
            ridge = [[100 + side * 4.5, self.eye_y + 2], [100 + side * 4, tip - 7], [100 + side * wing, tip]]
            self.stroke(np.array(ridge), s.skin * 0.68, 2, 1.6, 0.5)
            self.fill(arc(100 + side * wing * 0.55, tip + 1.5, 2.4, 1.4), s.skin * 0.35, blur=0.7)
        self.fill(arc(99, tip - 4, 3.2, 4), s.skin * 1.12, blur=2, alpha=0.5)
        lips = s.skin * [0.86, 0.58, 0.56] * (1 + 0.05 * s.lips)
        half = 17.5 * (0.8 + 0.2 * cues.growth)
        thick = 4.6 * s.lips * (1 - 0.45 * cues.sag)
        smile = float(self.rng.normal(1.5, 2))
        left, right = [-half, -smile * 0.7], [half, -smile * 0.7]
        top = [left, [-5, -thick], [0, -thick * 0.7], [5, -thick], right]
        bottom = [right, [0, thick * 1.25 + smile * 0.5], left]
        mouth = np.array([100.0, self.mouth_y])
        self.fill(smooth(np.array(top + bottom)) + mouth, lips, blur=0.7)
        gap = [left, [-half / 2, 0.5], [0, 1], [half / 2, 0.5], right]
        self.stroke(smooth(np.array(gap)) + mouth, s.skin * 0.28, 1, 0.6)
        self.stubble()

    def stubble(self) -> None:
        """Facial hair of adult men: dots in the colour of the hair, greying with it."""
        density = self.subject.beard * np.clip(self.cues.growth * 3 - 2, 0, 1)
        if density < 0.12:
            return
        y = np.arange(CANVAS, dtype=np.float32)[:, None]
        below_nose = np.clip((y - (self.mouth_y - 9)) / 5 + 0.5, 0, 1) * np.clip((CANVAS - y) / 5 + 0.5, 0, 1)
        area = self.skin_mask * np.asarray(below_nose, dtype=np.float32)
        area[int(self.mouth_y) - 5 : int(self.mouth_y) + 7, 84:117] = 0
        dots = self.rng.random((CANVAS, CANVAS)) < 0.55 * density
        grey = self.rng.random((CANVAS, CANVAS)) < self.cues.grey
        colour = np.where(grey[..., None], GREY, self.subject.hair)
        blurred = cv2.GaussianBlur((area * dots).astype(np.float32), (0, 0), 0.6)
        opacity = blurred[..., None] * np.float32(0.75)
        self.canvas += opacity * (colour.astype(np.float32) - self.canvas)

    def lines(self) -> None:
        """Wrinkles and folds: a dark groove with a light rim below."""
        grooves = np.zeros((CANVAS, CANVAS), np.uint8)
        for points, depth, width in [*self.wrinkles(), *self.folds()]:
            shade = int(min(max(depth, 0), 1) * 255)
            if not shade:
                continue
            line, box = line_mask(smooth(points), width + (depth > 0.4), 3, shade)
            np.maximum(grooves[box], line, out=grooves[box])
        dark: Any = cv2.GaussianBlur(grooves, (0, 0), 0.7).astype(np.float32) / 255 * self.skin_mask
        rim = np.roll(dark, 2, axis=0)
        relief = 0.2 * rim - 0.62 * dark
        relief -= cv2.blur(relief, (15, 15))  # keeps the mean: wrinkles must not show in a thumbnail
        self.canvas *= (1 + relief)[..., None]

    def wrinkles(self) -> list[tuple[Points, float, int]]:
        """Fine lines of forehead and eyes, as (points, depth, width)."""
        level, rng, found = self.cues.wrinkles, self.rng, []
        for row in range(5):
            depth = np.clip(level * 1.9 - 0.22 * row, 0, 1) * rng.uniform(0.75, 1)
            half = self.half_width * rng.uniform(0.5, 0.68)
            y = self.eye_y - 25 - 6.2 * row + rng.normal(0, 0.7)
            x = np.linspace(-half, half, 7)
            found.append((np.stack([100 + x, y + rng.normal(0, 0.8, 7) - 2 * np.cos(x / 12)], 1), depth, 1))
        for side in (-1, 1):
            start = np.array([100 + side * (self.eye_dx + 12), self.eye_y])
            for ray in range(-2, 3):
                depth = np.clip(level * 1.8 - 0.16 * abs(ray) - 0.1, 0, 1) * rng.uniform(0.7, 1)
                reach = side * rng.uniform(9, 14)
                foot = [[0, 1.8 * ray], [reach / 2, 3.3 * ray], [reach, 4.6 * ray]]
                found.append((start + np.array(foot), depth, 1))
            for row in range(3):
                depth = np.clip(level * 1.7 - 0.3 * row - 0.25, 0, 1)
                corner = np.array([100 + side * (self.eye_dx + 12 * row), self.mouth_y + 2 * row])
                cheek = corner + np.array([[8.0 * side, -14], [(4 + row) * side, -4], [(3 - row) * side, 6]])
                found.append((cheek, depth * 0.8, 1))
        return found

    def folds(self) -> list[tuple[Points, float, int]]:
        """Bags under the eyes and nasolabial folds."""
        sag, found = self.cues.sag, []
        for side in (-1, 1):
            for row in range(2):
                bag = arc(100 + side * self.eye_dx, self.eye_y + 2, 12 + row, 9 + 4 * row + 2 * sag, 25, 155)
                found.append((bag, sag * (0.9 - 0.3 * row), 2 - row))
            fold = np.array([[9.5, -19], [17, -10], [22.5, 1], [23.5 + 3 * sag, 9 + 8 * sag]])
            found.append((fold * [side, 1] + [100, self.mouth_y], sag * 0.95, 2))
        return found

    def skin_texture(self) -> None:
        """Roughness and spots, fine enough to vanish in a thumbnail."""
        level = self.cues.texture
        noise = self.rng.standard_normal((CANVAS, CANVAS), np.float32)
        rough = cv2.GaussianBlur(noise, (0, 0), 1.5) * 4.2 - cv2.GaussianBlur(noise, (0, 0), 4.5) * 4.5
        self.canvas *= (1 + self.skin_mask * rough * np.float32(0.015 + 0.085 * level))[..., None]
        spots = np.zeros((CANVAS, CANVAS), np.uint8)
        for _ in range(self.rng.poisson(16 * level**1.5)):
            x, y = self.rng.uniform(58, 142), self.rng.uniform(64, 160)
            cv2.circle(spots, (round(x), round(y)), int(self.rng.integers(1, 3)), 255, -1, cv2.LINE_AA)
        self.paint(spots * (self.skin_mask > 0.5), EVERYWHERE, self.subject.skin * 0.6, 0.7, 0.55)

    def hair_on_top(self) -> None:
        """The cap of hair above a hair line that rises, most at the temples."""
        recede = self.cues.hairline
        head = self.outline(1.07)
        angle = np.linspace(0, 1, 41)
        x = 100 + (angle * 2 - 1) * self.half_width * 1.1
        off = np.abs(angle * 2 - 1)
        base = self.eye_y - 35 - self.subject.hair_line + 3 * (1 - self.cues.growth)
        temples = 26 * recede * np.exp(-(((off - 0.55) / 0.26) ** 2))
        line = base - 17 * recede - temples + 42 * np.clip(off - 0.72, 0, 1) * 3.2
        line = line + self.rng.normal(0, 0.8, 41) * (1 + 2 * self.subject.curl)
        upper = head[head[:, 1] < self.eye_y + 6]
        upper = upper[np.argsort(upper[:, 0])]
        bulk = 4 + 8 * self.subject.curl * (1 - 0.6 * recede)
        upper = upper - [0, bulk] * (upper[:, 1:] < self.eye_y - 30)
        line = np.maximum(line, np.interp(x, upper[:, 0], upper[:, 1]) + 1)  # no hair above the head
        shape = np.concatenate([upper, np.stack([x, line], 1)[::-1]])
        self.strands(self.fill(shape, self.hair_colour(), blur=0.9))

    def hair_colour(self) -> Colour:
        """Return the mean colour, lightened by grey hair."""
        return self.subject.hair + (GREY - self.subject.hair) * 0.42 * self.cues.grey

    def strands(self, mask: NDArray[np.float32]) -> None:
        """Dark and grey strands inside a mask, straight or curly."""
        curl, grey = self.subject.curl, self.cues.grey
        noise = self.rng.standard_normal((CANVAS, CANVAS), np.float32)
        streak: Any = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.8, sigmaY=0.9 + 9 * (1 - curl))
        streak = streak / max(float(streak.std()), 1e-6)
        white = np.clip((streak - (1.5 - 3 * grey)) * 0.9, 0, 1) * mask * min(0.9, 0.15 + grey)
        dark = np.clip(-streak, 0, 2) * mask
        self.canvas *= (1 - 0.2 * dark)[..., None]
        self.canvas += white[..., None] * (GREY.astype(np.float32) - self.canvas)

    def glasses(self) -> None:
        """A thin dark frame."""
        if self.subject.glasses:
            for side in (-1, 1):
                rim = arc(100 + side * self.eye_dx, self.eye_y + 1, 16.5, 12.5)
                self.stroke(rim, [28, 26, 30], 2, 0.5, 0.9)
            bridge = np.array([[95.0, self.eye_y], [100, self.eye_y - 2], [105, self.eye_y]])
            self.stroke(bridge, [28, 26, 30], 2)


def photograph(canvas: Canvas, rng: np.random.Generator, size: int) -> Image:
    """Apply pose, light, white balance, exposure, blur and noise, all independent of age."""
    tilt, scale = float(rng.normal(0, 4)), float(rng.normal(1.12, 0.06))
    warp: Any = cv2.getRotationMatrix2D((CANVAS / 2, CANVAS / 2), tilt, scale)
    warp[:, 2] += rng.normal(0, 6, 2)
    image: Any = cv2.warpAffine(canvas, warp, (CANVAS, CANVAS), borderMode=cv2.BORDER_REFLECT_101)
    light = np.linspace(-1, 1, CANVAS, dtype=np.float32) * np.float32(rng.normal(0, 0.12))
    image *= (1 + light[None, :, None]) * rng.normal(1, 0.04, 3).astype(np.float32)
    exposure = np.clip(rng.normal(124, 16), 85, 165)  # of the whole image, independent of skin and hair
    image += np.float32(exposure - image.mean())
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.2, 0.65)))
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 3))
    if size != CANVAS:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)
