"""Shards as others write them: tf.io, tarfile, zipfile, pyarrow and NumPy."""

import io
import struct
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def example(**features):
    """A serialised tf.train.Example of bytes features; two underscores stand for a slash."""
    import tensorflow as tf

    return tf.train.Example(
        features=tf.train.Features(
            feature={
                name.replace("__", "/"): tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[value])
                )
                for name, value in features.items()
            }
        )
    ).SerializeToString()


def tfrecord(path, images, compression=""):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for name, data in images.items():
            writer.write(example(image__encoded=data, image__filename=name.encode()))


def tar(path, images, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, data in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))


def zipped(path, images):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in images.items():
            file.writestr(name, data)


def parquet(path, images, rows=7):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = [
        None if data is None else {"bytes": data, "path": name} for name, data in images.items()
    ]
    table = pa.table({"image": pa.array(column, kind), "label": list(range(len(images)))})
    pq.write_table(table, path, row_group_size=rows)


def idx(path, pixels):
    """IDX as MNIST's page describes it: magic, sizes, big-endian, then the bytes."""
    head = bytes([0, 0, 8, pixels.ndim]) + struct.pack(f">{pixels.ndim}I", *pixels.shape)
    path.write_bytes(head + pixels.tobytes())


def npz(path, pixels, labels):
    np.savez_compressed(path, images=pixels, labels=labels)


def plain(fields):
    """The values of fields, without their types."""
    return {name: value.as_py() for name, value in fields.items()}
