"""Small evaluations of real photographs."""

import skimage.data
from PIL import Image

from tests.jobs import run


def cut_photographs(folder):
    """Write twelve parts of photographs into a folder."""
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        pixels = getattr(skimage.data, name)()
        for number in range(3):
            part = pixels[40 * number :][:61, 50 * number :][:, :53]
            Image.fromarray(part).save(folder / f"{name} {number}.png")


def evaluate(archive, models, out, *more, names, recipe, code=None):
    """Score models of tests/saved_models.py, without guards and images."""
    named = ",".join(str(models / name) for name in names)
    told = ("--model", named, "--recipe", recipe, "--guard", "none", "--no_images")
    return run("evaluate", archive, out, *told, *more, code=code)
