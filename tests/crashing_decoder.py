"""A Beam plugin with which decoding an image that is all black crashes the process."""

import ctypes

from transforms import read

_decode = read.decode_record


def decode_or_crash(record, *settings):
    done = _decode(record, *settings)
    if not done.image.any():
        ctypes.string_at(0)  # a segmentation fault, as of a bug in a library
    return done


read.decode_record = decode_or_crash
