"""The source files of labkit."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


LIB = ROOT / "lib" / "labkit"


MODULES = sorted(path for path in LIB.rglob("*.py"))
