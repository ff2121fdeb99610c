"""The Hugging Face hub: what is on this machine, and downloading it. The only importer of huggingface_hub.

Nothing here touches the network except `download`, and nothing calls `download` but the verb `pull`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img2prompt.errors import DownloadError, PresetError, first_lines

# The names open_clip gives to weights, the safe format first.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pt",
    "pytorch_model.bin",
)
# What may lie beside them and is needed to load them.
COMPANIONS = (
    "open_clip_config.json",
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "confidence.json",
    "confidence.safetensors",
    "ranking.json",
)
SPARE_BYTES = 64 * 2**20  # left free on the disk after a download


def cached_file(repository: str, name: str, *, kind: str = "model") -> Path | None:
    """The file of the repository in the local cache, or None; no network.

    Args:
        repository: "owner/name".
        name: of the file.
        kind: of the repository: "model" or "dataset".

    Raises:
        PresetError: no repository can have that name.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, name, cache_dir=constants.HF_HUB_CACHE, repo_type=kind)
    except HFValidationError as error:
        raise PresetError(f"hf-hub:{repository}: not a repository's name; write hf-hub:OWNER/NAME") from error
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def cached_weights(repository: str) -> Path | None:
    """The weights of the repository in the local cache, the safe format first, or None; no network."""
    return next((path for name in WEIGHTS if (path := cached_file(repository, name)) is not None), None)


def download(repository: str, sha256: Mapping[str, str] | None = None, endpoint: str | None = None) -> Path:
    """Downloads the weights and what belongs to them, goes on where an earlier download stopped, and verifies.

    Args:
        repository: "owner/name".
        sha256: known checksums (file name -> hexadecimal digest), which count more than those the hub names.
        endpoint: address of the hub; None: huggingface_hub's own setting.

    Returns:
        The weights in the local cache.

    Raises:
        DownloadError: no connection, no such repository, no space or a wrong checksum. What is then on the disk
            does not count as cached.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=endpoint)
    with _explained(repository):
        info = api.model_info(repository, files_metadata=True)
        folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    listed = {file.rfilename: file for file in info.siblings or ()}
    name = next((name for name in WEIGHTS if name in listed), None)
    if name is None:
        raise DownloadError(f"{repository}: holds no weights that open_clip reads ({', '.join(WEIGHTS)})")
    weights = _Weights(repository, name, str(info.sha), listed[name].size or 0, _digest(listed[name], sha256 or {}))
    with _explained(repository):
        for companion in (other for other in COMPANIONS if other in listed):
            api.hf_hub_download(repository, companion, revision=info.sha, cache_dir=constants.HF_HUB_CACHE)
        path = weights.fetch(folder, endpoint)
        # The name "main" is what finds the files later, so it is the last thing to be written.
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(str(info.sha), encoding="ascii")
    return path


@dataclass(frozen=True, slots=True)
class _Weights:
    """One large file of a repository. huggingface_hub starts a broken download afresh; this one goes on."""

    repository: str
    name: str
    commit: str
    size: int
    sha256: str

    def fetch(self, folder: Path, endpoint: str | None) -> Path:
        """Puts the file into the cache's folder of the repository, verified before it gets its name there."""
        blob, path = folder / "blobs" / self.sha256, folder / "snapshots" / self.commit / self.name
        for parent in (blob.parent, path.parent):
            parent.mkdir(parents=True, exist_ok=True)
        if blob.exists():
            self._verify(blob)
        else:
            part = blob.with_name(f"{self.sha256}.img2prompt-part")
            self._download(part, endpoint)
            self._verify(part)
            part.replace(blob)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(Path("../../blobs") / self.sha256)
        except OSError:  # a system without links
            shutil.copyfile(blob, path)
        return path

    def _download(self, part: Path, endpoint: str | None) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = hf_hub_url(self.repository, self.name, revision=self.commit, endpoint=endpoint)
        with part.open("ab") as file:
            if file.tell() > self.size:
                file.truncate(0)
            _check_space(self.repository, self.size - file.tell(), part.parent)
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers(),
                expected_size=self.size,
                displayed_filename=self.name,
            )
            file.flush()
            os.fsync(file.fileno())

    def _verify(self, file: Path) -> None:
        found = sha256_of(file)
        if found != self.sha256:
            file.unlink()
            raise DownloadError(
                f"{self.repository}: {self.name} has the SHA-256 {found[:12]}... where {self.sha256[:12]}... is"
                " expected; the file was removed, run the same pull again"
            )


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(listed: Any, known: Mapping[str, str]) -> str:
    digest = known.get(listed.rfilename) or (listed.lfs.sha256 if listed.lfs is not None else None)
    if digest is None:
        raise DownloadError(f"{listed.rfilename}: the hub names no checksum for it, so it cannot be verified")
    return str(digest)


def _check_space(repository: str, needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE_BYTES:
        raise DownloadError(
            f"{repository}: needs {_gigabytes(needed)} in {folder}, and {_gigabytes(free)} are free;"
            " make room, or set HF_HOME to a folder on a larger disk"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns what the hub's library raises into one line that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DownloadError(f"{repository}: the hub has no such public repository; check the spelling") from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(f"{repository}: HF_HUB_OFFLINE is set; unset it to download") from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"{repository}: the hub refused ({first_lines(error, 1)}); try again later") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"{repository}: the disk is full; make room and run the same pull again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise DownloadError(
                f"{repository}: cannot write {error.filename}; set HF_HOME to another folder"
            ) from error
        raise _interrupted(repository, error) from error
    except Exception as error:
        if not _is_transport(error):
            raise
        raise _interrupted(repository, error) from error


def _is_transport(error: Exception) -> bool:
    """Whether the HTTP library failed to carry the data; its name changes between versions of huggingface_hub."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"TransportError", "RequestException", "LocalEntryNotFoundError", "XetDownloadError"})


def _interrupted(repository: str, error: Exception) -> DownloadError:
    reason = first_lines(error, 1)
    return DownloadError(
        f"{repository}: no connection to the hub, or it broke ({reason});"
        " check the network and run the same pull again: it goes on where it stopped"
    )
