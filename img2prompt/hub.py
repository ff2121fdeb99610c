"""The Hugging Face hub: what is on this machine, and downloading it. The only importer of huggingface_hub.

Nothing here touches the network except `download`, and nothing calls `download` but the verb `pull`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from img2prompt.errors import DownloadError, PresetError

# The names open_clip gives to weights, the safe format first.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
# What may lie beside them and is needed to load them.
COMPANIONS = (
    "open_clip_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "confidence.json",
    "confidence.safetensors",
)
SPARE_BYTES = 64 * 2**20  # left free on the disk after a download
# Stands beside a repository's files while they are downloaded and not yet verified: they do not count as cached.
UNVERIFIED = ".img2prompt-unverified"


def cached_file(repository: str, name: str) -> Path | None:
    """The file of the repository in the local cache, or None; no network."""
    from huggingface_hub import constants, try_to_load_from_cache

    if (_repository_folder(repository) / UNVERIFIED).exists():
        return None
    found = try_to_load_from_cache(repository, name, cache_dir=constants.HF_HUB_CACHE)
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
        listed = {f.rfilename: f for f in api.model_info(repository, files_metadata=True).siblings or ()}
    weights = next((name for name in WEIGHTS if name in listed), None)
    if weights is None:
        raise DownloadError(f"{repository}: holds no weights that open_clip reads ({', '.join(WEIGHTS)})")
    wanted = [name for name in COMPANIONS if name in listed] + [weights]
    missing = [name for name in wanted if cached_file(repository, name) is None]
    _check_space(repository, sum(listed[name].size or 0 for name in missing), Path(constants.HF_HUB_CACHE))
    marker = _repository_folder(repository) / UNVERIFIED
    with _explained(repository):
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        paths = {n: Path(api.hf_hub_download(repository, n, cache_dir=constants.HF_HUB_CACHE)) for n in wanted}
    for name, path in paths.items():
        _verify(repository, path, (sha256 or {}).get(name) or _hub_sha256(listed[name]), listed[name].size)
    marker.unlink(missing_ok=True)
    return paths[weights]


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _repository_folder(repository: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.file_download import repo_folder_name

    try:
        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    except HFValidationError as error:
        raise PresetError(f"hf-hub:{repository}: not a repository's name; write hf-hub:OWNER/NAME") from error


def _hub_sha256(listed: Any) -> str | None:
    return None if listed.lfs is None else str(listed.lfs.sha256)


def _verify(repository: str, path: Path, sha256: str | None, size: int | None) -> None:
    # Small files are not in LFS and come without a SHA-256; their size is what can be held against the listing.
    wrong = None
    if size is not None and path.stat().st_size != size:
        wrong = f"has {path.stat().st_size:,} bytes where {size:,} are announced"
    elif sha256 is not None and (found := sha256_of(path)) != sha256:
        wrong = f"has the SHA-256 {found[:12]}... where {sha256[:12]}... is expected"
    if wrong:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise DownloadError(f"{repository}: {path.name} {wrong}; the file was removed, run the same pull again")


def _check_space(repository: str, needed: int, cache: Path) -> None:
    folder = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE_BYTES:
        raise DownloadError(
            f"{repository}: needs {_gigabytes(needed)} in {cache}, and {_gigabytes(free)} are free;"
            " make room, or set HF_HOME to a folder on a larger disk"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns what the hub's library raises into one line that says what to do."""
    import errno

    from huggingface_hub import errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DownloadError(f"{repository}: the hub has no such public repository; check the spelling") from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(f"{repository}: HF_HUB_OFFLINE is set; unset it to download") from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"{repository}: the hub refused ({_first_line(error)}); try again later") from error
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
    reason = _first_line(error)
    return DownloadError(
        f"{repository}: no connection to the hub, or it broke ({reason});"
        " check the network and run the same pull again: it goes on where it stopped"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
