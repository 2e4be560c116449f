"""A bucket of S3 as an archive's store, through fsspec and s3fs.

An object appears whole, under its final name, when the server has all of it; there is no temporary name and no rename. That the name
is nobody's yet is the server's to say (If-None-Match); of one that does not know that it is asked before, and the object is read again.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Any

from assembler.core.lines import as_line
from assembler.core.places import Place
from assembler.core.receipts import Content
from assembler.errors import ConfigurationError, OutputError, TakenError
from assembler.service.destination import DAY, chunks, read_content

_PART = 8 << 20
"""Of a large object, what is sent, or asked for, at once [bytes]."""

_TAKEN = ("PreconditionFailed", "412")
_UNKNOWN = ("NotImplemented", "501")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, and what the names of objects in it begin with."""

    files: Any  # s3fs's file system
    bucket: str
    prefix: str
    tidied: set[tuple[str, ...]] = field(default_factory=set)

    def url(self, place: Place) -> str:
        """Return the URL of an object."""
        return f"s3://{self.bucket}/{self._key(place)}"

    def names(self, folder: tuple[str, ...]) -> frozenset[str]:
        """Return the names in a folder."""
        path = "/".join((self.bucket, *self._parts(folder)))
        with self._told(folder), suppress(FileNotFoundError):
            found = self.files.ls(path, detail=False, refresh=True)
            return frozenset(name.rstrip("/").rpartition("/")[2] for name in found)
        return frozenset()

    def read(self, place: Place, longest: int) -> bytes | None:
        """Return what a small object holds, or None where there is none."""
        with self._told(place):
            size = self._size(place)
            if size is None:
                return None
            if size > longest:
                raise OutputError(f"{self.url(place)}: is larger than the {longest >> 20} MiB that it may have", retry=False)
            return b"".join(self._pieces(place, size))

    def content(self, place: Place) -> Content | None:
        """Read an object from the server, and return what it holds; None where there is none."""
        with self._told(place):
            size = self._size(place)
            if size is None:
                return None
            digest, done = hashlib.sha256(), 0
            for piece in self._pieces(place, size):
                digest.update(piece)
                done += len(piece)
            return Content(size=done, sha256=digest.hexdigest())

    def add(self, place: Place, stream: IO[bytes], content: Content) -> None:
        """Keep an object, and read it again."""
        with self._told(place):
            if self._size(place) is not None:
                raise self._taken(place)
            try:
                self._put(place, stream, content, {"IfNoneMatch": "*"})
            except OSError as error:
                if _code(error) in _TAKEN or isinstance(error, FileExistsError):
                    raise self._taken(place) from error
                if _code(error) not in _UNKNOWN:
                    raise
                if self._size(place) is not None:
                    raise self._taken(place) from error
                self._put(place, stream, content, {})
        if self.content(place) != content:
            told = f"{self.url(place)}: what arrived is not what was sent. It has its name, and is left for somebody to look at"
            raise OutputError(told)

    def replace(self, place: Place, data: bytes) -> None:
        """Keep a small object under a name, whatever had it before."""
        with self._told(place):
            self._put(place, BytesIO(data), read_content(BytesIO(data).read), {})

    @contextmanager
    def alone(self, folder: tuple[str, ...]) -> Iterator[None]:  # noqa: ARG002
        """Do nothing: S3 has no locks."""
        yield

    def tidy(self, folder: tuple[str, ...]) -> None:
        """Abandon uploads in parts that were begun more than a day ago; nobody sees them, but they are kept, and paid for."""
        if folder in self.tidied:
            return
        self.tidied.add(folder)
        prefix = "/".join((*self._parts(folder), ""))
        with self._told(folder):
            found = self.files.call_s3("list_multipart_uploads", Bucket=self.bucket, Prefix=prefix)
            for upload in found.get("Uploads") or ():
                begun = upload["Initiated"]
                age = type(begun).now(begun.tzinfo) - begun
                if age.total_seconds() > DAY and "/" not in upload["Key"].removeprefix(prefix):
                    with suppress(FileNotFoundError):
                        self.files.call_s3("abort_multipart_upload", Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def close(self) -> None:
        """Close the connections."""
        type(self.files).close_session(self.files.loop, self.files.s3)

    def _parts(self, folder: tuple[str, ...]) -> tuple[str, ...]:
        return (self.prefix, *folder) if self.prefix else folder

    def _key(self, place: Place) -> str:
        return "/".join((*self._parts(place.folder), place.name))

    def _path(self, place: Place) -> str:
        return f"{self.bucket}/{self._key(place)}"

    def _size(self, place: Place) -> int | None:
        """Return the size of an object [bytes], or None where there is none; the server is asked, whatever is remembered."""
        try:
            found = self.files.call_s3("head_object", Bucket=self.bucket, Key=self._key(place))
        except FileNotFoundError:
            return None
        return int(found["ContentLength"])

    def _pieces(self, place: Place, size: int) -> Iterator[bytes]:
        for start in range(0, size, _PART):
            yield self.files.cat_file(self._path(place), start=start, end=min(size, start + _PART))

    def _put(self, place: Place, stream: IO[bytes], content: Content, condition: dict[str, str]) -> None:
        """Send an object: at once where it is small, else in parts, which become one in the end."""
        where = {"Bucket": self.bucket, "Key": self._key(place)}
        if content.size <= _PART:
            self.files.call_s3("put_object", **where, Body=b"".join(chunks(stream, content)), **condition)
            return
        upload = {**where, "UploadId": self.files.call_s3("create_multipart_upload", **where)["UploadId"]}
        try:
            parts = []
            for number, piece in enumerate(chunks(stream, content, _PART), 1):
                told = self.files.call_s3("upload_part", **upload, PartNumber=number, Body=piece)
                parts.append({"PartNumber": number, "ETag": told["ETag"]})
            self.files.call_s3("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with suppress(OSError, _boto_error()):
                self.files.call_s3("abort_multipart_upload", **upload)
            raise

    def _taken(self, place: Place) -> TakenError:
        url = self.url(place)
        return TakenError(f"{url} exists, and nothing in an archive is overwritten", path=url)

    @contextmanager
    def _told(self, what: Place | tuple[str, ...]) -> Iterator[None]:
        """Tell what the server cannot do, or that it is away, as what it is: a failure of the store."""
        where = self.url(what) if isinstance(what, Place) else "/".join((f"s3://{self.bucket}", *self._parts(what)))
        try:
            yield
        except (OSError, _boto_error()) as error:
            raise OutputError(f"{where}: {_words(error)}") from error


def open_s3(bucket: str, prefix: str) -> Bucket:
    """Return a bucket that is there.

    Raises
    ------
    ConfigurationError
        When s3fs is not installed.
    OutputError
        When the server is away, does not let us in, or has no such bucket.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise ConfigurationError("--to s3://...: needs s3fs; install the extra: pip install 'l0-assembler[s3]'") from None
    opened = Bucket(files=S3FileSystem(skip_instance_cache=True, use_listings_cache=False), bucket=bucket, prefix=prefix)
    try:
        opened.files.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError as error:
        raise OutputError(f"s3://{bucket}: there is no such bucket") from error
    except (OSError, _boto_error()) as error:
        raise OutputError(f"s3://{bucket}: {_words(error)}") from error
    return opened


def _boto_error() -> type[Exception]:
    from botocore.exceptions import BotoCoreError

    return BotoCoreError  # type: ignore[no-any-return]


def _code(error: BaseException) -> str:
    """Return the code that the server gave, beneath what s3fs made of it."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _words(error: Exception) -> str:
    return as_line(getattr(error, "strerror", None) or str(error) or type(error).__name__, 200)
