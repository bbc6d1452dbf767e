"""Pictures of the images that a network classifies wrongly, read from the study's images.

As a program, which the dashboard starts, it reads `PictureRequest` as JSON and prints the pictures.
"""

from __future__ import annotations

import io
import sys

import numpy as np
from PIL import Image

from mbsearch.analysis.worst_errors import ErrorPictures, PictureRequest
from mbsearch.data.readers import Pixels, channels, resized
from mbsearch.data.sources import Members, study_source
from mbsearch.errors import DataError
from mbsearch.space.image_format import ImageFormat

SIDE = 96  # pixels; twelve pictures are about 50 KB


def error_pictures(request: PictureRequest) -> ErrorPictures:
    """Return the pictures as squares; the problem if the images are gone, or others."""
    try:
        members = _members(request)
        rows = members.rows[list(request.positions)]
        depth = channels(members.pool, rows)
        found = resized(members.pool, rows, (ImageFormat.of(SIDE),), depth)
        return ErrorPictures(tuple(_jpeg(square) for (square,) in found))
    except DataError as error:
        return ErrorPictures(problem=str(error))


def _members(request: PictureRequest) -> Members:
    """Return the images of the request's split.

    Raises:
        DataError: they cannot be read, or are not the study's.
    """
    source = study_source(request.settings)
    members = next(found for kind, found in source.members.items() if kind == request.split)
    if not np.array_equal(members.labels, request.labels):
        raise DataError(f"{source.place}: expected the images of the study, got others")
    return members


def _jpeg(square: Pixels) -> bytes:
    """Return a picture (channels, side, side) as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(square.transpose(1, 2, 0).squeeze()).save(file, "JPEG", quality=85)
    return file.getvalue()


if __name__ == "__main__":
    sys.stdout.write(error_pictures(PictureRequest.from_json(sys.stdin.read())).to_json())
