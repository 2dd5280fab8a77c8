"""Badges lead to this copy's own notebooks, and the cell that they need does nothing elsewhere."""

import subprocess
import sys
import types

import badges
import pytest

from agentlib import config

SCRIPT = (
    "# ---\n# jupyter: x\n# ---\n\n# %% [markdown]\n# # 00 · Title\n\n# %%\nimport agentlib\n\n# %%"
    " [markdown]\n# More\n"
)


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# Title\n\n<!-- badges -->\n<!-- /badges -->\n\nText\n")
    for name in ("00_look", "01_build"):
        (tmp_path / "notebooks" / "src" / f"{name}.py").write_text(SCRIPT)
    return tmp_path


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/o/n.git",
        "https://github.com/o/n",
        "git@github.com:o/n.git\n",
        "ssh://git@github.com/o/n",
    ],
)
def test_a_remote_is_read_however_it_is_spelt(remote):
    assert badges.repository(remote) == "o/n"


@pytest.mark.parametrize(
    "remote", ["https://example.org/o/n.git", "/home/me/clone", "https://github.com/o"]
)
def test_another_remote_is_named(remote):
    with pytest.raises(ValueError, match=r"is not on github\.com"):
        badges.repository(remote)


def test_badges_are_written_once_and_follow_a_move(copy):
    assert len(badges.write(copy, "o/n", "main")) == 3
    page = (copy / "README.md").read_text()
    assert "mybinder.org/v2/gh/o/n/main?urlpath=lab/tree/notebooks" in page and page.endswith(
        "\n\nText\n"
    )
    for name in ("00_look", "01_build"):
        assert f"colab.research.google.com/github/o/n/blob/main/notebooks/{name}.ipynb" in page
    assert badges.write(copy, "o/n", "main") == []
    assert len(badges.write(copy, "me/fork", "class")) == 3
    page, script = (copy / "README.md").read_text(), (copy / "notebooks/src/00_look.py").read_text()
    assert "o/n" not in page and "/gh/me/fork/class?" in page
    assert script.count("google.colab") == 2 and "o/n" not in script
    places = [
        script.index(part)
        for part in ("# 00 · Title", 'tags=["colab"]', "import agentlib", "# More")
    ]
    assert places == sorted(places)


def test_a_page_without_a_place_for_badges_is_named(copy):
    (copy / "README.md").write_text("# Title\n")
    with pytest.raises(ValueError, match="has no lines <!-- badges -->"):
        badges.write(copy, "o/n", "main")


def test_the_cell_fetches_the_project_in_colab_only(monkeypatch):
    code, asked, entered = badges.cell("o/n", "main"), [], []
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    monkeypatch.setattr("os.chdir", entered.append)
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(code, {})
    assert asked == entered == []
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(code, {})
    assert [command[:2] for command in asked] == [["git", "clone"], [sys.executable, "-m"]]
    assert (
        "https://github.com/o/n" in asked[0]
        and entered == ["/content/n/notebooks"]
        and sys.path[0] == "/content/n"
    )


def test_the_command_says_where_it_leads_or_why_not(copy, monkeypatch, capsys):
    monkeypatch.setattr(config, "ROOT", copy)
    assert (
        badges.main(["--repository", "o/n"]) == 0 and "3 files changed" in capsys.readouterr().out
    )
    assert badges.main(["--repository", "o/n"]) == 0 and "stand already" in capsys.readouterr().out
    assert (
        badges.main(["--repository", "nonsense"]) == 2 and "owner/name" in capsys.readouterr().err
    )
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    assert badges.main([]) == 2 and "no remote 'origin'" in capsys.readouterr().err
    subprocess.run(
        ["git", "remote", "add", "origin", "git@github.com:me/fork.git"], cwd=copy, check=True
    )
    assert badges.main([]) == 0 and "me/fork: 3 files changed" in capsys.readouterr().out


def test_this_readme_has_a_place_for_badges():
    assert badges.BLOCK.search((config.ROOT / "README.md").read_text(encoding="utf-8"))
