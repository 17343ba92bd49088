"""Build the wheel, look inside it, install it in an empty place, and run it there.

An editable installation never shows a file that the wheel lacks. The empty place is a new virtual
environment outside this tree; it borrows the packages that the project needs from the environment
this runs in, through a path file, which does not bring the editable installation along.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = ("ledger/", "ledger_projections/", "jobledger-")
NEEDED = ("ledger/store/migrations/env.py", "ledger/py.typed", "ledger_projections/__init__.py")
PROOF = """
import pathlib, sys
import ledger, ledger_projections
from importlib.metadata import entry_points
for package in (ledger, ledger_projections):
    assert package.__file__.startswith(sys.prefix), f"{package.__file__} is not the wheel's"
for point in entry_points(group="jobledger.projections"):
    point.load()
from ledger.store.location import db_upgrade, open_log
data = pathlib.Path("data")
db_upgrade(data, None)
open_log(data, None, write=False).close()
"""


def build(target: Path) -> Path:
    """The wheel, built without network by the pinned builder."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    run([*command, "--no-build-isolation", "--wheel-dir", str(target), str(ROOT)])
    (wheel,) = target.glob("jobledger-*.whl")
    return wheel


def complaints(wheel: Path) -> list[str]:
    """What the wheel lacks, and what it should not have."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = [f"{name} is missing" for name in NEEDED if name not in names]
    if not any(name.startswith("ledger/store/migrations/versions/") for name in names):
        found.append("ledger/store/migrations/versions/ has no migration")
    for folder, inside in (("src", "ledger"), ("projections", "ledger_projections")):
        sources = (
            path.relative_to(ROOT / folder) for path in (ROOT / folder / inside).rglob("*.py")
        )
        found += [f"{path} is missing" for path in sources if path.as_posix() not in names]
    return found + [f"{name} should not be there" for name in names if not name.startswith(PLACES)]


def install(wheel: Path, place: Path) -> Path:
    """The folder of commands of a new environment that has the wheel and nothing of this tree."""
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)])
    packages = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def run(command: list[str], cwd: Path = ROOT) -> str:
    """What a command printed. Ends this program, with the command's own words, if it failed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="jobledger-wheel-") as name:
        place = Path(name)
        wheel = build(place / "dist")
        found = complaints(wheel)
        if found:
            sys.exit(f"{wheel.name}: " + "; ".join(found))
        commands = install(wheel, place / "empty")
        run([str(commands / "python"), "-c", PROOF], cwd=place)
        version = run([str(commands / "jobledger"), "--version"], cwd=place).strip()
        print(f"{wheel.name}: {wheel.stat().st_size} bytes; in an empty place it says {version}")


if __name__ == "__main__":
    main()
