"""The object stores, one call at a time: `storage` adds patience and says what went wrong.

Clients are made from Beam's options and credentials, but S3 and Google Cloud Storage are called
directly. Beam's file systems make a new client for every call, write a photograph in seven
requests, send an object to its end when its first bytes are wanted, take names for globs, and wait
for ten minutes where credentials are missing.
"""

import contextlib
import importlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, S3Options
from apache_beam.options.value_provider import RuntimeValueProvider

from transforms import scratch
from transforms.faults import PASSING_ERRNOS
from transforms.scratch import Buffer

# By scheme: the extra of ours that brings its client, and a module of that client.
EXTRAS = {
    "gs": ("gcp", "google.cloud.storage"),
    "s3": ("aws", "boto3"),
    "azfs": ("azure", "azure.storage.blob"),
    "hdfs": ("hdfs", "hdfs"),
}

# Request Timeout, Too Many Requests, and the server errors that come and go.
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

_PIECE = 8 << 20  # of an object, where it is written piece by piece

_CONNECT_SECONDS = 20
_READ_SECONDS = 60


class Trouble(Enum):
    """What an error means for what to do next."""

    PASSING = auto()
    FORBIDDEN = auto()
    MISSING = auto()
    LASTING = auto()


class StoreError(Exception):
    """An error that no library raised: of one object among many, or of a path."""

    def __init__(self, message: str, trouble: Trouble = Trouble.LASTING) -> None:
        super().__init__(message)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class File:
    """A listed file: path, bytes, seconds since 1970 of its last change."""

    path: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an object, with the size and the version of the whole."""

    data: bytes
    size: int
    version: Any


class Store(ABC):
    """An object store. Every method is one attempt; errors are the client library's own.

    Attributes:
        most_deleted: paths that `delete` takes at a time.
    """

    most_deleted = 50

    @abstractmethod
    def page(self, prefix: str, token: str | None) -> tuple[list[File], str | None]:
        """List some of the objects whose paths begin with a prefix, and the next page's token."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Say whether there is an object, or any below it as if it were a folder."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Read an object."""

    @abstractmethod
    def part(self, path: str, start: int, length: int, version: Any) -> Part:
        """Read some bytes of an object, of a version if one is given."""

    @abstractmethod
    def write(self, path: str, data: Buffer, temporary: str) -> None:
        """Write an object whole; `temporary` is a name to use for one that is not."""

    @abstractmethod
    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects of one bucket, whether they are there or not."""

    @abstractmethod
    def trouble(self, error: Exception) -> Trouble:
        """Judge an error that one of the other methods raised."""

    def reason(self, error: Exception) -> str:
        """Say what an error is about."""
        return str(error)


def open_store(scheme: str, options: Any) -> Store:
    """Make a client for a scheme from Beam's options.

    Raises:
        StoreError: the scheme is unknown, or its extra is not installed.
    """
    if scheme not in EXTRAS:
        try:
            return _BeamStore(scheme)  # of a --beam_plugin
        except ValueError as error:
            known = ", ".join(f"{name}://" for name in EXTRAS)
            raise StoreError(
                f"{scheme}:// is no storage we know: there are {known} and local paths"
            ) from error
    extra, module = EXTRAS[scheme]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise StoreError(f"pip install 'heliograph[{extra}]' ({error})") from error
    if isinstance(options, dict):
        options = PipelineOptions.from_dictionary(options)
    options = options or PipelineOptions([])
    if scheme == "s3":
        return _S3(options)
    if scheme == "gs":
        return _GoogleCloud(options)
    return (_Hadoop if scheme == "hdfs" else _BeamStore)(scheme)


def current_options() -> Any:
    """Give what Beam's file systems go by: the pipeline's options, the worker's, or None."""
    # Beam has no public way to ask; FileSystems.get_filesystem itself looks here.
    return FileSystems._pipeline_options or RuntimeValueProvider.runtime_options


def split(path: str) -> tuple[str, str]:
    """Split a path into bucket and name: s3://bucket/box/a.jpg into bucket and box/a.jpg."""
    bucket, _, name = path.partition("://")[2].partition("/")
    if not bucket:
        raise StoreError("there is no bucket in the path")
    return bucket, name


class _S3(Store):
    most_deleted = 1000  # in one request

    def __init__(self, options: PipelineOptions) -> None:
        from boto3.session import Session
        from botocore import exceptions
        from botocore.config import Config

        chosen = options.view_as(S3Options)
        # A session of its own: the default one is not to be shared between threads.
        self._client = Session().client(
            "s3",
            region_name=chosen.s3_region_name,
            api_version=chosen.s3_api_version,
            use_ssl=not chosen.s3_disable_ssl,
            verify=chosen.s3_verify,
            endpoint_url=chosen.s3_endpoint_url,
            aws_access_key_id=chosen.s3_access_key_id,
            aws_secret_access_key=chosen.s3_secret_access_key,
            aws_session_token=chosen.s3_session_token,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                # Else boto would try again on its own, uncounted, within each of our tries.
                retries={"total_max_attempts": 1},
            ),
        )
        self._errors = exceptions

    def page(self, prefix: str, token: str | None) -> tuple[list[File], str | None]:
        bucket, name = split(prefix)
        more = {"ContinuationToken": token} if token else {}
        answer = self._client.list_objects_v2(Bucket=bucket, Prefix=name, **more)
        files = [
            File(f"s3://{bucket}/{found['Key']}", found["Size"], found["LastModified"].timestamp())
            for found in answer.get("Contents", [])
        ]
        return files, answer.get("NextContinuationToken")

    def exists(self, path: str) -> bool:
        bucket, name = split(path)
        if name and self._found(self._client.head_object, Bucket=bucket, Key=name):
            return True
        folder = name.rstrip("/") + "/" if name else ""
        below = self._found(self._client.list_objects_v2, Bucket=bucket, Prefix=folder, MaxKeys=1)
        return bool(below and below.get("Contents"))

    def _found(self, call: Any, **asked: Any) -> Any:
        try:
            return call(**asked)
        except self._errors.ClientError as error:
            if self.trouble(error) is Trouble.MISSING:
                return None
            raise

    def read(self, path: str) -> bytes:
        bucket, name = split(path)
        return self._client.get_object(Bucket=bucket, Key=name)["Body"].read()

    def part(self, path: str, start: int, length: int, version: Any) -> Part:
        bucket, name = split(path)
        same = {"IfMatch": version} if version else {}
        reach = f"bytes={start}-{start + length - 1}"
        try:
            answer = self._client.get_object(Bucket=bucket, Key=name, Range=reach, **same)
        except self._errors.ClientError as error:
            if _s3_status(error) != 416:
                raise
            # No range is within an object of no bytes.
            answer = self._client.get_object(Bucket=bucket, Key=name, **same)
        data = answer["Body"].read()
        size = int(answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2])
        return Part(data, size, answer["ETag"])

    def write(self, path: str, data: Buffer, temporary: str) -> None:
        # The client sends a checksum, which the store holds the bytes to before it shows them.
        bucket, name = split(path)
        body = data if isinstance(data, bytes) else scratch.opened(data)
        self._client.put_object(Bucket=bucket, Key=name, Body=body)

    def delete(self, paths: Sequence[str]) -> None:
        bucket, _ = split(paths[0])
        keys = [{"Key": split(path)[1]} for path in paths]
        answer = self._client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        for failed in answer.get("Errors", []):
            code = failed.get("Code", "")
            raise StoreError(
                f"{failed['Key']}: {failed.get('Message', code)}", _S3_TROUBLE.get(code, _LASTING)
            )

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, self._errors.ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            return _S3_TROUBLE.get(code) or _of_status(_s3_status(error))
        errors = self._errors
        passing = errors.HTTPClientError | errors.ConnectionError | errors.IncompleteReadError
        if isinstance(error, passing):
            return Trouble.PASSING
        if isinstance(error, errors.NoCredentialsError | errors.PartialCredentialsError):
            return Trouble.FORBIDDEN
        return trouble_of(error)

    def reason(self, error: Exception) -> str:
        if not isinstance(error, self._errors.ClientError):
            return str(error)
        said = error.response.get("Error", {})
        return f"{said.get('Message', 'no reason given')} ({said.get('Code', 'no code')})"


_LASTING = Trouble.LASTING

# What an HTTP status does not tell, being 400, or 200 with errors of single objects inside.
_S3_TROUBLE = {
    "AccessDenied": Trouble.FORBIDDEN,
    "ExpiredToken": Trouble.FORBIDDEN,
    "InvalidAccessKeyId": Trouble.FORBIDDEN,
    "InternalError": Trouble.PASSING,
    "OperationAborted": Trouble.PASSING,
    "RequestTimeout": Trouble.PASSING,
    "ServiceUnavailable": Trouble.PASSING,
    "SlowDown": Trouble.PASSING,
}


def _s3_status(error: Any) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


class _GoogleCloud(Store):
    def __init__(self, options: PipelineOptions) -> None:
        import requests
        import urllib3
        from apache_beam.io.gcp.gcsio import create_storage_client
        from google.api_core.exceptions import GoogleAPICallError, NotFound
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.cloud.storage.exceptions import DataCorruption

        # An emulator asks for no credentials, and to look for some takes half a minute.
        anonymous = options.view_as(GoogleCloudOptions).no_auth or (
            "STORAGE_EMULATOR_HOST" in os.environ
        )
        self._client = create_storage_client(options, use_credentials=not anonymous)
        self._answered, self._not_found = GoogleAPICallError, NotFound
        self._unauthorised = GoogleAuthError
        self._passing = (
            DataCorruption,
            TransportError,
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            urllib3.exceptions.HTTPError,
        )

    def _blob(self, path: str) -> Any:
        bucket, name = split(path)
        return self._client.bucket(bucket).blob(name)

    def page(self, prefix: str, token: str | None) -> tuple[list[File], str | None]:
        bucket, name = split(prefix)
        listing = self._client.list_blobs(bucket, prefix=name, page_token=token, retry=None)
        files = [
            File(f"gs://{bucket}/{blob.name}", blob.size, blob.updated.timestamp())
            for blob in next(listing.pages, [])
        ]
        return files, listing.next_page_token

    def exists(self, path: str) -> bool:
        bucket, name = split(path)
        try:
            if name and self._blob(path).exists(retry=None):
                return True
            folder = name.rstrip("/") + "/" if name else ""
            listing = self._client.list_blobs(bucket, prefix=folder, max_results=1, retry=None)
            return any(True for _ in listing)
        except self._not_found:  # the bucket
            return False

    def read(self, path: str) -> bytes:
        # Raw: the store would unpack what was stored as gzip, and then no checksum fits.
        return self._blob(path).download_as_bytes(raw_download=True, retry=None)

    def part(self, path: str, start: int, length: int, version: Any) -> Part:
        if version is None:
            known = self._blob(path)
            known.reload(retry=None)
            version = known.size, known.generation
        size, generation = version
        if size == 0:
            return Part(b"", size, version)
        data = self._blob(path).download_as_bytes(
            start=start,
            end=start + length - 1,
            if_generation_match=generation,
            raw_download=True,
            checksum=None,  # it is of the whole object
            retry=None,
        )
        return Part(data, size, version)

    def write(self, path: str, data: Buffer, temporary: str) -> None:
        self._blob(path).upload_from_file(
            scratch.opened(data),
            size=len(data),
            content_type="application/octet-stream",
            checksum="crc32c",
            retry=None,
        )

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(self._not_found):
                self._blob(path).delete(retry=None)

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, self._answered):
            return _of_status(error.code or 0)
        if isinstance(error, self._passing):
            return Trouble.PASSING
        if isinstance(error, self._unauthorised):
            return Trouble.FORBIDDEN
        return trouble_of(error)

    def reason(self, error: Exception) -> str:
        if not isinstance(error, self._answered):
            return str(error)
        said = [detail.get("message", "") for detail in error.errors if isinstance(detail, dict)]
        text = "; ".join(filter(None, said)) or getattr(error.response, "text", "")
        # A proxy's answer is a page of HTML.
        if not text or "<" in text:
            text = HTTPStatus(error.code or 500).phrase
        return f"{text.strip()} ({int(error.code or 500)})"


class _BeamStore(Store):
    """Any other of Beam's file systems, by what they have in common."""

    def __init__(self, scheme: str) -> None:
        self._system: FileSystem = FileSystems.get_filesystem(f"{scheme}://")

    def page(self, prefix: str, token: str | None) -> tuple[list[File], str | None]:
        if self._system.has_dirs():
            folder = prefix if prefix.endswith("/") else prefix.rpartition("/")[0] + "/"
            found = [file for file in self._walk(folder) if file.path.startswith(prefix)]
        else:
            found = [_described(file) for file in self._system._list(prefix)]
        return found, None

    def _walk(self, folder: str) -> list[File]:
        # As Beam's own of this machine does, `_list` is taken to go all the way down.
        there = self._system.exists(folder)
        return [_described(file) for file in self._system._list(folder)] if there else []

    def exists(self, path: str) -> bool:
        return self._system.exists(path) or (
            not self._system.has_dirs() and any(True for _ in self._system._list(path + "/"))
        )

    def read(self, path: str) -> bytes:
        with self._opened(path) as file:
            return file.read()

    def part(self, path: str, start: int, length: int, version: Any) -> Part:
        size = self._system.metadata(path).size_in_bytes if version is None else version
        with self._opened(path) as file:
            # Beneath Beam's buffer, which would fetch sixteen megabytes at a time.
            raw = getattr(file, "raw", file)
            raw.seek(start)
            return Part(raw.read(length), size, size)

    def _opened(self, path: str) -> Any:
        return self._system.open(path, compression_type=CompressionTypes.UNCOMPRESSED)

    def write(self, path: str, data: Buffer, temporary: str) -> None:
        # An object appears whole when it is closed; a file of Hadoop's grows in its place.
        target = temporary if self._system.has_dirs() else path
        try:
            with self._system.create(
                target, compression_type=CompressionTypes.UNCOMPRESSED
            ) as file:
                shutil.copyfileobj(scratch.opened(data), file, _PIECE)
            self._require_size(target, len(data))  # before what is there now makes way for it
            if target != path:
                if self._system.exists(path):  # Hadoop renames over nothing
                    self._system.delete([path])
                else:
                    parent = path.rpartition("/")[0]
                    if not self._system.exists(parent):
                        self._system.mkdirs(parent)
                self._system.rename([target], [path])
                self._require_size(path, len(data))
        except BaseException:
            if target != path:
                with contextlib.suppress(Exception):
                    self.delete([target])
            raise

    def _require_size(self, path: str, expected: int) -> None:
        size = self._system.metadata(path).size_in_bytes
        if size != expected:
            raise StoreError(f"{expected} bytes were written but {size} are there", Trouble.PASSING)

    def delete(self, paths: Sequence[str]) -> None:
        self._system.delete([path for path in paths if self._system.exists(path)])

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, BeamIOError) and isinstance(error.exception_details, dict):
            for inner in error.exception_details.values():
                if isinstance(inner, Exception):
                    return self.trouble(inner)
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        return _of_status(status) if isinstance(status, int) else trouble_of(error)


class _Hadoop(_BeamStore):
    def _walk(self, folder: str) -> list[File]:
        # Beam lists one level and does not say what is a folder. Hadoop's client does.
        system: Any = self._system
        server, path = system._parse_url(folder)
        return [
            File(
                "hdfs:/" + system._join(server, parent, name),
                status["length"],
                status["modificationTime"] / 1000,
            )
            for (parent, _), _, files in system._hdfs_client.walk(path, status=True)
            for name, status in files
        ]


def _described(file: Any) -> File:
    return File(file.path, file.size_in_bytes, file.last_updated_in_seconds or 0.0)


def _of_status(status: int) -> Trouble:
    if status in PASSING_STATUSES:
        return Trouble.PASSING
    if status in (401, 403):
        return Trouble.FORBIDDEN
    return Trouble.MISSING if status == 404 else Trouble.LASTING


def trouble_of(error: Exception) -> Trouble:
    """Judge an error that is no store's own."""
    if isinstance(error, StoreError):
        return error.trouble
    if isinstance(error, PermissionError):
        return Trouble.FORBIDDEN
    if isinstance(error, FileNotFoundError):
        return Trouble.MISSING
    passing = isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in PASSING_ERRNOS
    )
    return Trouble.PASSING if passing else _LASTING
