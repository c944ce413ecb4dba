"""The heliograph distribution."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "heliograph.py").read_text("utf-8")).group(1)

setup(
    name="heliograph",
    version=VERSION,
    description="Restore photographic archives with TensorFlow SavedModels on Apache Beam",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    py_modules=["heliograph"],
    packages=find_packages(include=["pipeline*", "transforms*", "models*"]),
    package_data={"models.zoo": ["*/*", "*/*/*"]},
    install_requires=[
        "apache-beam[tfrecord]>=2.77,<3",
        "google-crc32c>=1.5",
        # Decoders and encoders of TIFF's compressions, JPEG 2000 and 16-bit PNG; littleCMS in 16
        # bits. The oldest that decodes fax.
        "imagecodecs>=2026.3.6",
        "keras>=3.10,<4",
        "numpy>=1.26",
        "opencv-python-headless>=5,<6",
        # Reads commit records.
        "orjson>=3.9.7",
        "pillow>=12",
        "protobuf>=5",
        "pyarrow>=18",
        "rich>=13",
        "scikit-image>=0.25",
        # Student's t, and what tests of significance need (pipeline/statistics.py and drift.py).
        "scipy>=1.11.4",
        "tensorflow>=2.18",
        # What the tags of a TIFF say of its strips and tiles.
        "tifffile>=2026.3.3",
        # Colour spaces inside serving graphs (models/colour.py): its TensorFlow operations only.
        "tensorflow-io>=0.37.1",
    ],
    extras_require={
        # Content credentials (transforms/sign.py), and the certificates that sign them.
        "c2pa": ["c2pa-python>=0.38", "cryptography>=43"],
        # Files for Prometheus (pipeline/metrics_file.py).
        "prometheus": ["prometheus_client>=0.20"],
        # Storage other than local folders.
        "aws": ["apache-beam[aws]"],
        "azure": ["apache-beam[azure]"],
        "gcp": ["apache-beam[gcp]"],
        "hdfs": ["apache-beam[hadoop]"],
        "dev": [
            "hypothesis>=6.100",
            "mypy>=1.15",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "c2pa-python>=0.38",
            "cryptography>=43",
            "prometheus_client>=0.20",
            # What bags and IIIF manifests are held to; iiif-prezi3 itself is in the Makefile.
            "bagit>=1.9",
            "pydantic>=2",
            "requests>=2.28",
            # Object stores on this machine, and their clients.
            "apache-beam[aws,gcp,hadoop]",
            "flask>=3",
            "flask-cors>=5",
            "gcp-storage-emulator>=2024.8",
            "moto[s3]>=5",
            # The libraries whose shards ours are held to.
            "datasets>=4",
            "tensorflow-datasets>=4.9",
            "webdataset>=1.0",
        ],
    },
    entry_points={"console_scripts": ["heliograph = heliograph:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Graphics",
    ],
)
