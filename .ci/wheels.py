"""The wheels that a release has: whether cibuildwheel would build just those, or has.

Usage: wheels.py planned      what cibuildwheel says that it builds, by pyproject.toml: it needs `--group wheels`
       wheels.py built DIR    what is in a folder, beside one sdist

This ends with status 1 when something is missing, or is there and should not be. What must come out is written down
here once more: a mistake in cibuildwheel's configuration would otherwise pass for what was wanted.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ["cp311", "cp312", "cp313", "cp314", "cp315"]
"""Free-threaded ones come when docs/free-threading.md holds."""
PLATFORMS = {
    "linux": ["manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"],
    "macos": ["macosx_x86_64", "macosx_arm64"],
    "windows": ["win_amd64", "win_arm64"],
}

WHEEL = re.compile(r"crest_ws-(?P<version>[^-]+)-(?P<python>cp\d+)-(?P<abi>cp\d+t?)-(?P<platform>[^-]+)\.whl")
SDIST = re.compile(r"crest_ws-(?P<version>[^-]+)\.tar\.gz")
LEAST_SYSTEM = re.compile(r"(?<=linux|acosx)_\d+_\d+(?=_)")
"""Which glibc, musl or macOS a wheel needs at least: it is not part of an identifier."""


def expected() -> set[str]:
    return {f"{python}-{name}" for python in PYTHONS for names in PLATFORMS.values() for name in names}


def planned() -> list[str]:
    """Ask cibuildwheel, which needs neither a container nor the system that it is asked about."""
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform"]
    found = []
    for platform in PLATFORMS:
        asked = subprocess.run([*command, platform, str(ROOT)], stdout=subprocess.PIPE, text=True, check=True)
        found += asked.stdout.split()
    return found


def identifier(wheel: str) -> str:
    """Return cibuildwheel's name for what it built a wheel for; the wheel's own if it built nothing of that name."""
    parts = WHEEL.fullmatch(wheel)
    if parts is None or parts["python"] != parts["abi"]:
        return wheel
    return f"{parts['python']}-{LEAST_SYSTEM.sub('', parts['platform'].split('.')[0])}"


def faults_of_plan(found: list[str]) -> list[str]:
    """Return what is wrong with a list of identifiers."""
    faults = [f"{each} is missing" for each in sorted(expected() - set(found))]
    return faults + [f"{each} should not be there" for each in sorted(set(found) - expected())]


def faults_of_folder(files: list[str]) -> list[str]:
    """Return what is wrong with the files of a release."""
    sdists = [each for each in files if SDIST.fullmatch(each)]
    faults = [] if len(sdists) == 1 else [f"there is not one sdist but {len(sdists)}"]
    wheels = [each for each in files if each not in sdists]
    versions = {parts["version"] for each in files if (parts := WHEEL.fullmatch(each) or SDIST.fullmatch(each))}
    if len(versions) > 1:
        faults.append(f"there is more than one version: {', '.join(sorted(versions))}")
    found = [identifier(each) for each in wheels]
    faults += [f"{each} was built {found.count(each)} times" for each in sorted(set(found)) if found.count(each) > 1]
    return faults + faults_of_plan(found)


def main() -> None:
    match sys.argv[1:]:
        case ["planned"]:
            faults = faults_of_plan(planned())
        case ["built", folder]:
            faults = faults_of_folder(sorted(path.name for path in Path(folder).iterdir()))
        case _:
            sys.exit(__doc__)
    print(*faults or [f"all {len(expected())} wheels, and no others"], sep="\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
