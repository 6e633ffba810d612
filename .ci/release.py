"""Whether the source tree is ready to be published as what a tag says.

Usage: release.py TAG

This ends with status 1 if the tag does not name the version, if the changelog has no date for it, or if the
repository's URL is not known.
"""

import re
import sys
from pathlib import Path
from runpy import run_path

ROOT = Path(__file__).resolve().parent.parent


def faults(tag: str, version: str, changelog: str, source: str | None) -> list[str]:
    """Return what is in the way of publishing.

    Args:
        tag: the version, with a v before it.
        version: the package's.
        changelog: the text of CHANGELOG.md.
        source: URL of the repository; None: there is none.
    """
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, the version is {version}")
    if not re.search(rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog):
        found.append(f"CHANGELOG.md has no line '## [{version}] - YYYY-MM-DD'")
    if source is None:
        found.append("presentation.py does not name the repository: SOURCE is None")
    return found


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    version = run_path(str(ROOT / "src" / "crest" / "_version.py"))["__version__"]
    source = run_path(str(ROOT / "presentation.py"))["SOURCE"]
    found = faults(sys.argv[1], version, (ROOT / "CHANGELOG.md").read_text("utf-8"), source)
    print(*found or [f"{version} may be published"], sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
