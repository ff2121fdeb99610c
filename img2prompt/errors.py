"""Every error a user can cause, and how one of a library is told.

The tree (each line a class; indentation is inheritance):

    Img2PromptError            exit code 2, one line: what, where, what to do
        ImageError             an image could not be used; carries `source`
            ImageNotFound      the path does not exist
            ImageIsDirectory   a directory where one image was expected
            ImageUnreadable    permission denied, or the device failed while reading
            ImageEmpty         zero bytes
            ImageTruncated     the file ends before the picture does
            NotAnImage         the bytes are no image in a format we read
            ImageTooLarge      over the limit of bytes or pixels (decompression bombs too)
            FetchError         a URL did not give an image: HTTP status, time-out, redirects, HTML
        MetadataError          metadata inside a file is hostile or beyond the limits
        MissingExtra           an optional dependency is not installed
        PresetError            unknown preset, not on this machine, or its files are damaged
            DownloadError      `pull` failed: connection, space or checksum
        ModelError             a model folder or checkpoint is unusable (format, architecture, unsafe)
        DataError              a data set, table or column is unusable
        ConfigError            a setting or command-line value is wrong
        OutputError            a result cannot be written
        TrainingError          training had to stop (NaN, empty data); the last good checkpoint is kept
        ClusterError           a cluster cannot be reached, stands still or keeps losing a worker; finished shards stay

Programming errors are not in the tree: they propagate with their traceback.
"""

from __future__ import annotations

_TOLD_CHARS = 240  # of what a library says


class Img2PromptError(Exception):
    """Base of all errors that a user can cause; `str(error)` is one line."""


class ImageError(Img2PromptError):
    """An image could not be used.

    Attributes:
        source: what the user named: a path, a URL, "<bytes>", "<stdin>".
        reason: what was wrong and what to do, without the source.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source}: {reason}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # Exceptions are pickled by their args; ours are the two parts, so that worker processes can send them.
        return type(self), (self.source, self.reason)


class ImageNotFound(ImageError):
    """The path does not exist."""


class ImageIsDirectory(ImageError):
    """A directory where one image was expected."""


class ImageUnreadable(ImageError):
    """Permission denied, or the device failed while reading."""


class ImageEmpty(ImageError):
    """Zero bytes."""


class ImageTruncated(ImageError):
    """The file ends before the picture does."""


class NotAnImage(ImageError):
    """The bytes are no image in a format we read."""


class ImageTooLarge(ImageError):
    """Over the limit of bytes or pixels."""


class FetchError(ImageError):
    """A URL did not give an image."""


class MetadataError(Img2PromptError):
    """Metadata inside a file is hostile or beyond the limits."""


class MissingExtra(Img2PromptError):
    """An optional dependency is not installed; the message holds the install line."""


class PresetError(Img2PromptError):
    """Unknown preset, not on this machine, or its files are damaged."""


class DownloadError(PresetError):
    """`pull` failed: connection, space or checksum."""


class ModelError(Img2PromptError):
    """A model folder or checkpoint is unusable."""


class DataError(Img2PromptError):
    """A data set, table or column is unusable."""


class ConfigError(Img2PromptError):
    """A setting or command-line value is wrong."""


class OutputError(Img2PromptError):
    """A result cannot be written."""


class TrainingError(Img2PromptError):
    """Training had to stop; the last good checkpoint is kept."""


class ClusterError(Img2PromptError):
    """A cluster cannot be reached, stands still or keeps losing a worker; finished shards stay."""


def first_lines(error: BaseException, most: int = 2) -> str:
    """What a library's error says, as one line of at most 240 characters.

    Args:
        error: of a library; the class's name stands for one that says nothing.
        most: lines of it that are told.
    """
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    return " ".join(lines[:most])[:_TOLD_CHARS] or type(error).__name__
