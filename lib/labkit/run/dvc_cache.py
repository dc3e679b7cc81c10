"""The objects in DVC's cache: files known by their MD5, and listings of folders.

DVC takes an object that is write-protected to be what its name says. Here it is read before it is trusted: what a
disk or a stranger changed is set aside, and a listing may not lead out of its folder. Nothing here needs DVC, which
takes a second to import; who calls this is `labkit.run.pipeline.dvc_repo`.
"""

import configparser
import re
import time
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from labkit import paths
from labkit.errors import DataError
from labkit.paths import show
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
        It is no MD5.
    """
    if not MD5.fullmatch(md5):
        raise DataError(f"{md5!r:.100} is no MD5 of an object in DVC's cache: restore dvc.lock from git, or remove it")
    return (cache or find_cache()) / "files" / "md5" / md5[:2] / md5[2:]


def list_objects(md5: str, place: str, cache: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Yield every object of an output, checked, with the place it will have; one that is not there is left out.

    Raises
    ------
    DataError
        One is damaged, and is set aside then; or a listing is none or leads out of its folder.
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
    """Return whether the cache has an object and all that it lists."""
    path = find_object(md5, cache)
    if not path.is_file():
        return False
    return not md5.endswith(LISTING) or all(is_whole(one, cache) for one in load_listing(path).values())


def check_object(path: Path, md5: str, place: str) -> None:
    """Set an object aside and refuse it if its bytes are not those that it is known by."""
    if compute_md5(path) == md5.removesuffix(LISTING):
        return
    aside = paths.find_root() / ".labkit" / "damaged" / md5
    move(path, aside)
    raise DataError(
        f"{show(path)}: damaged, so {place} is not restored from it: it is in {show(aside)} now, "
        "and the next run makes it again"
    )


def check_listing(md5: str, cache: Path) -> None:
    """Refuse a listing that is none, before DVC reads it; one that is not there, or of a single file, passes."""
    if md5.endswith(LISTING) and (path := find_object(md5, cache)).is_file():
        load_listing(path)


def load_listing(path: Path) -> dict[str, str]:
    """Read the listing of a folder: the MD5 of each file by its name relative to the folder.

    Raises
    ------
    DataError
        It is not a listing, or a name leads out of the folder.
    """
    try:
        listed = {str(entry["relpath"]): str(entry["md5"]) for entry in parse_json(path.read_bytes())}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{show(path)}: no listing of a folder ({error}): remove it and run again") from error
    for name in listed:
        check_relative_path(name, show(path))
    return listed


def check_relative_path(place: str, where: str) -> None:
    """Refuse a path that is absolute or leads upwards.

    Raises
    ------
    DataError
        It does.
    """
    windows = PureWindowsPath(place)
    is_rooted = place.startswith("/") or bool(windows.drive or windows.root)
    if not place or "\0" in place or is_rooted or ".." in windows.parts:
        raise DataError(f"{where}: {place!r:.200} leads out of its folder: nothing is restored from it; remove it")


def list_leftovers(cache: Path) -> list[Path]:
    """Return the half-written files that ended processes left in a cache: older than an hour."""
    eldest = time.time() - OLDEST_LEFTOVER_SECONDS
    return [path for path in cache.rglob(f"*{LEFTOVER}") if path.is_file() and path.stat().st_mtime < eldest]
