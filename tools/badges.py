"""Badges that open the notebooks in Colab and Binder, for the address on GitHub that a copy has: the original's or a fork's.

Owns the links, and the cell that fetches the project where a notebook is opened without it. Knows nothing of what a notebook
does. Run it again after moving: `make badges`, or with ARGS=--repository=owner/name before there is a remote.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from agentlib import config

BLOCK = re.compile(r"(<!-- badges -->\n).*?(<!-- /badges -->)", re.DOTALL)
CELL = re.compile(r'# %% tags=\["colab"\]\n.*?\n(?=# %%)', re.DOTALL)
COLAB, BINDER = "https://colab.research.google.com", "https://mybinder.org"


def repository(remote: str) -> str:
    """The "owner/name" of a remote on GitHub, as git prints it; raises ValueError for another."""
    found = re.fullmatch(
        r"(?:https://|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?",
        remote.strip(),
    )
    if not found:
        raise ValueError(
            f"remote {remote!r} is not on github.com, which Colab opens; give --repository owner/name"
        )
    return f"{found[1]}/{found[2]}"


def links(name: str, branch: str, notebooks: list[str]) -> str:
    """The lines of the README: one badge for Binder, one for Colab that opens the first notebook, and the others by number."""

    def colab(notebook: str) -> str:
        return f"{COLAB}/github/{name}/blob/{branch}/notebooks/{notebook}.ipynb"

    numbers = " · ".join(f"[{notebook[:2]}]({colab(notebook)})" for notebook in notebooks)
    return (
        f"[![Open in Binder]({BINDER}/badge_logo.svg)]({BINDER}/v2/gh/{name}/{branch}?urlpath=lab/tree/notebooks)\n"
        f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({colab(notebooks[0])}) {numbers}\n"
    )


def cell(name: str, branch: str) -> str:
    """The first code cell of a notebook opened in Colab, as percent script; anywhere else it does nothing."""
    folder = name.rpartition("/")[2]
    return f"""# %% tags=["colab"]
# In Colab: fetches the project, in a few minutes. Anywhere else this cell does nothing.
import os
import subprocess
import sys

if "google.colab" in sys.modules and not os.path.exists("/content/{folder}"):
    clone = ["git", "clone", "--quiet", "--depth=1", "--branch={branch}", "https://github.com/{name}", "/content/{folder}"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "/content/{folder}"]
    for command in (clone, install):
        subprocess.run(command, check=True)
if "google.colab" in sys.modules:
    os.chdir("/content/{folder}/notebooks")
    sys.path.insert(0, "/content/{folder}")

"""


def write(root: Path, name: str, branch: str) -> list[Path]:
    """Put badges into the README and the cell into the scripts of all notebooks; returns the files that changed.

    What an earlier call wrote is replaced. Raises ValueError for a README that has no place for badges.
    """
    scripts = sorted((root / "notebooks" / "src").glob("[0-9][0-9]*_*.py"))
    page = root / "README.md"
    if not BLOCK.search(page.read_text(encoding="utf-8")):
        raise ValueError(
            f"{page} has no lines <!-- badges --> and <!-- /badges -->; put them where the badges shall be"
        )
    lines, first = links(name, branch, [script.stem for script in scripts]), cell(name, branch)
    wanted = {
        page: BLOCK.sub(lambda found: found[1] + lines + found[2], page.read_text(encoding="utf-8"))
    }
    for script in scripts:
        head, title, rest = CELL.sub("", script.read_text(encoding="utf-8")).partition(
            "# %% [markdown]\n"
        )
        story, code, rest = rest.partition("# %%")
        wanted[script] = head + title + story + first + code + rest
    changed = [file for file, text in wanted.items() if file.read_text(encoding="utf-8") != text]
    for file in changed:
        file.write_text(wanted[file], encoding="utf-8")
    return changed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repository", help="owner/name on GitHub; by default that of the remote `origin`"
    )
    parser.add_argument("--branch", default="main")
    asked = parser.parse_args(arguments)
    try:
        name = asked.repository
        if not name:
            remote = subprocess.run(
                ["git", "remote", "get-url", "origin"],
                cwd=config.ROOT,
                capture_output=True,
                text=True,
            )
            if remote.returncode:
                raise ValueError(
                    "this copy has no remote 'origin'; push it to GitHub first, or give --repository owner/name"
                )
            name = repository(remote.stdout)
        repository(f"https://github.com/{name}")
        changed = write(config.ROOT, name, asked.branch)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{name}: {len(changed)} files changed" if changed else f"{name}: badges stand already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
