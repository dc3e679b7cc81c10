"""The objects in DVC's cache: files named by their MD5, and listings of folders.

DVC trusts an object that is write-protected without reading it. Here each object is verified first: a damaged or
modified one is set aside, and a listing may not contain paths outside of its folder. Does not import DVC, which takes
a second; the caller is `labkit.run.pipeline.dvc_repo`.
"""

import configparser
import re
import time
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from labkit import paths
from labkit.errors import DataError
from labkit.paths import show_path
from labkit.storage.atomic import move, parse_json
from labkit.storage.digests import compute_md5

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
REMOTE = re.compile(r"'?remote \"?([^\"']+)\"?'?")
LISTING = ".dir"
LEFTOVER = ".tmp"
OLDEST_LEFTOVER_SECONDS = 3600


def find_cache() -> Path:
    """Return the folder of DVC's cache: the checkout's own, or the one its configuration names."""
    return paths.find_root() / ".dvc" / read_config().get("cache", "dir", fallback="cache")


def find_remotes() -> dict[str, str]:
    """Return the addresses of the DVC remotes by name, the default one first, without passwords."""
    config = read_config()
    names = {found[1]: section for section in config.sections() if (found := REMOTE.fullmatch(section))}
    default = config.get("core", "remote", fallback="")
    urls = {name: paths.show_address(config.get(section, "url", fallback="")) for name, section in names.items()}
    return dict(sorted(urls.items(), key=lambda item: (item[0] != default, item[0])))


def read_config() -> configparser.ConfigParser:
    """Return DVC's configuration of the checkout, empty where it is broken, which DVC itself reports."""
    own = paths.find_root() / ".dvc"
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([own / "config", own / "config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return configparser.ConfigParser(interpolation=None)
    return config


def find_object(md5: str, cache: Path | None = None) -> Path:
    """Return where an object is kept, by its MD5.

    Raises
    ------
    DataError
        `md5` is not an MD5.
    """
    if not MD5.fullmatch(md5):
        raise DataError(
            f"{md5!r:.100} is not the MD5 of an object in DVC's cache: restore dvc.lock from git, or remove it"
        )
    return (cache or find_cache()) / "files" / "md5" / md5[:2] / md5[2:]


def list_objects(md5: str, place: str, cache: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Yield every object of an output, verified, with the path it will have; missing objects are left out.

    Raises
    ------
    DataError
        An object is damaged, and is set aside; or a listing is invalid or contains a path outside of its folder.
    """
    path = find_object(md5, cache)
    if not path.is_file():
        return
    check_object(path, md5, place)
    yield place, path
    if md5.endswith(LISTING):
        for name, inner in load_listing(path).items():
            yield from list_objects(inner, f"{place}/{name}", cache)


def is_whole(md5: str, cache: Path | None = None) -> bool:
    """Return whether the cache has an object and everything that it lists."""
    path = find_object(md5, cache)
    if not path.is_file():
        return False
    return not md5.endswith(LISTING) or all(is_whole(one, cache) for one in load_listing(path).values())


def check_object(path: Path, md5: str, place: str) -> None:
    """Set an object aside and raise an error if its content does not match its MD5."""
    if compute_md5(path) == md5.removesuffix(LISTING):
        return
    aside = paths.find_root() / ".labkit" / "damaged" / md5
    move(path, aside)
    raise DataError(
        f"{show_path(path)}: damaged, so {place} is not restored from it: moved to {show_path(aside)}; "
        "the next run makes it again"
    )


def check_listing(md5: str, cache: Path) -> None:
    """Raise an error for an invalid listing before DVC reads it; a missing one, or a single file, passes."""
    if md5.endswith(LISTING) and (path := find_object(md5, cache)).is_file():
        load_listing(path)


def load_listing(path: Path) -> dict[str, str]:
    """Read the listing of a folder: the MD5 of each file by its name relative to the folder.

    Raises
    ------
    DataError
        It is not a listing, or it contains a path outside of the folder.
    """
    try:
        listed = {str(entry["relpath"]): str(entry["md5"]) for entry in parse_json(path.read_bytes())}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{show_path(path)}: not a directory listing ({error}): remove it and run again") from error
    for name in listed:
        check_relative_path(name, show_path(path))
    return listed


def check_relative_path(place: str, where: str) -> None:
    """Raise an error for a path that is absolute or contains `..`.

    Raises
    ------
    DataError
        The path is outside of its folder.
    """
    windows = PureWindowsPath(place)
    is_rooted = place.startswith("/") or bool(windows.drive or windows.root)
    if not place or "\0" in place or is_rooted or ".." in windows.parts:
        raise DataError(f"{where}: {place!r:.200} is outside of its folder: nothing is restored from it; remove it")


def list_leftovers(cache: Path) -> list[Path]:
    """Return the temporary files, older than an hour, that ended processes left in a cache."""
    oldest = time.time() - OLDEST_LEFTOVER_SECONDS
    return [path for path in cache.rglob(f"*{LEFTOVER}") if path.is_file() and path.stat().st_mtime < oldest]
