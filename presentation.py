"""The project as package indexes show it: its URLs, and README.md, whose relative links lead nowhere there."""

import re

SOURCE: str | None = None
"""URL of the public repository, as GitHub has them; None: there is none yet. This is the only place that names it."""

FENCE_OR_LINK = re.compile(r"(?ms)^```.*?^```|(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!#|\w+:)(?P<path>[^)\s]+)\)")


def absolute(markdown: str, source: str | None, version: str) -> str:
    """Have relative links and pictures refer to a release's own.

    Args:
        markdown: a document of the source tree's root.
        source: URL of the repository, as GitHub has them; None: there is none, so links become their text, and pictures
            are left out.
        version: of the release, whose tag has a v before it.
    """

    def moved(match: re.Match[str]) -> str:
        picture, text, path = match["picture"], match["text"], match["path"]
        if path is None:
            return match[0]
        if source is None:
            return "" if picture else text
        return f"{picture}[{text}]({source}/{'raw' if picture else 'blob'}/v{version}/{path})"

    return FENCE_OR_LINK.sub(moved, markdown)


def urls(source: str | None, version: str) -> dict[str, str]:
    """Return what a release links to, by its label.

    Args:
        source, version: as for `absolute`.
    """
    if source is None:
        return {}
    return {
        "Source": source,
        "Documentation": f"{source}/blob/v{version}/docs/index.md",
        "Changelog": f"{source}/blob/v{version}/CHANGELOG.md",
        "Issues": f"{source}/issues",
    }
