"""Files that come with a package: pages, units and scripts, in which `EXPERIMENT` stands for its name."""

from pathlib import Path

from labkit.storage.atomic import write_text

TEMPLATES = Path(__file__).parent / "templates"
PLACEHOLDER = "EXPERIMENT"
ENDING = ".template"
"""Ending of files that are modules elsewhere, but not of labkit."""


def write_package_files(form: str, folder: Path, experiment: str) -> None:
    """Write the files that come with a form of package into an existing folder; scripts can be run."""
    for source in sorted((TEMPLATES / form).iterdir()):
        path = folder / source.name.removesuffix(ENDING).replace(PLACEHOLDER, experiment)
        write_text(path, source.read_text(encoding="utf-8").replace(PLACEHOLDER, experiment))
        if path.read_bytes().startswith(b"#!"):
            path.chmod(0o755)
