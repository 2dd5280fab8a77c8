"""The runner: settings from the command line, notebooks inspected first, the closing table."""

import json
import subprocess
import sys
import time

import nbformat
import pytest

from agentlib import config
from agentlib.runner import notebooks, preflight, run


def notebook(
    folder,
    source='preset = "smoke"\noverrides = {}',
    tags=("parameters",),
    name="03_train_students.ipynb",
    body="1 + 1",
):
    book = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    book.cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}),
        nbformat.v4.new_code_cell(body),
    ]
    nbformat.write(book, folder / name)
    return folder / name


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "agentlib", "run", *arguments],
        capture_output=True,
        text=True,
        cwd=config.ROOT,
        timeout=120,
    )


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("questions=5", 5),
        ("learning_rate=2e-4", 2e-4),
        ("temperature=1", 1),
        ("teacher=Qwen2.5-32B-Instruct", "Qwen2.5-32B-Instruct"),
        ("teacher_server=http://host:8000/v1?x=1", "http://host:8000/v1?x=1"),
        ("teacher_records=", ""),
        ("teacher_tested=True", True),
        ("teacher_tested=false", False),
        (
            "students=SmolLM2-135M-Instruct, Qwen2.5-Coder-0.5B-Instruct",
            ["SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct"],
        ),
        ("benchmarks=teaching-math", ["teaching-math"]),
        ("sample_counts=1,2,8", [1, 2, 8]),
        ("sample_counts=", []),
        ("sweep_temperatures=0.2,0.8", [0.2, 0.8]),
    ],
)
def test_a_setting_is_read_as_its_kind_and_accepted_by_the_configuration(text, expected):
    name, found = config.setting(text)
    assert (name, found) == (text.partition("=")[0], expected) and type(found) is type(expected)
    assert getattr(config.load("smoke", **{name: found}), name) == (
        tuple(expected) if isinstance(expected, list) else expected
    )


@pytest.mark.parametrize(
    "text",
    [
        "questions=many",
        "questions=1e3",
        "questions=",
        "learning_rate=fast",
        "questions=[3]",
        "learning_rate=__import__('os')",
        "questions=True",
        "teacher_tested=maybe",
        "teacher_tested=1",
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(text):
    name, value = config.setting(text)
    with pytest.raises(ValueError, match=repr(name)):
        config.load("smoke", **{name: value})


def test_a_setting_without_an_equals_sign_is_refused():
    with pytest.raises(ValueError, match="'questions 5' has no '=', expected name=value"):
        config.setting("questions 5")


# --- notebooks --------------------------------------------------------------------------------------------------


def test_the_main_line_runs_with_its_parts_unless_some_are_named(tmp_path):
    for number in ("00", "01", "05", "05b", "06"):
        (tmp_path / f"{number}_do_it.ipynb").touch()
    (tmp_path / "notes.ipynb").touch()

    def chosen(*only):
        return [notebooks.number(path) for path in notebooks.select(only, tmp_path)]

    assert chosen() == ["00", "01", "05", "05b"]
    assert chosen("06", "01", "06") == ["01", "06"] and chosen("05b") == ["05b"]
    with pytest.raises(ValueError, match="'3' is unknown, expected one of 00, 01, 05, 05b, 06"):
        notebooks.select(["3"], tmp_path)


def test_inspecting_gives_the_parameters_and_their_defaults(tmp_path):
    assert notebooks.inspect(
        notebook(tmp_path, 'preset = "smoke"  # size\noverrides = {"a": 1}\nn = -1')
    ) == {"preset": "smoke", "overrides": {"a": 1}, "n": -1}


@pytest.mark.parametrize("tags", [(), ("setup",)])
def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path, tags):
    with pytest.raises(
        ValueError, match=r"03_train_students\.ipynb has 0 cells tagged 'parameters'"
    ):
        notebooks.inspect(notebook(tmp_path, tags=tags))


@pytest.mark.parametrize(
    "source",
    [
        "preset = open('x')",
        "preset = 'a' + name",
        "import os",
        "preset: str = 'smoke'",
        "print(1)",
        "%matplotlib inline",
        "preset = ",
    ],
)
def test_a_parameters_cell_of_more_than_literals_is_refused_by_the_notebooks_name(tmp_path, source):
    with pytest.raises(ValueError, match=r"03_train_students\.ipynb"):
        notebooks.inspect(notebook(tmp_path, source))


def test_a_notebook_that_takes_no_overrides_is_refused_before_it_runs(project):
    with pytest.raises(ValueError, match=r"takes no parameter overrides, only preset"):
        notebooks.execute(
            notebook(project, 'preset = "smoke"'), config.load("smoke"), {}, project / "out"
        )
    assert not (project / "out").exists()


def test_the_command_refuses_such_a_notebook_before_any_other_runs(project, monkeypatch, capsys):
    good, bad = (
        notebook(project, name="00_see.ipynb"),
        notebook(project, 'preset = "smoke"', name="01_ask.ipynb"),
    )
    monkeypatch.setattr(notebooks, "select", lambda only: [good, bad])
    monkeypatch.setattr(preflight, "problems", lambda cfg, numbers: [])
    monkeypatch.setattr(
        notebooks, "execute", lambda *_, **__: pytest.fail("a notebook was started")
    )
    assert run.main([]) == 2 and "01_ask.ipynb" in capsys.readouterr().err


@pytest.mark.notebook
def test_a_notebook_runs_with_typed_parameters_and_its_failure_is_told(project, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", project)
    cfg, body = (
        config.load("smoke"),
        "assert preset == 'smoke' and overrides == {'learning_rate': 2e-4, 'students': ['a']}",
    )
    line = notebooks.execute(
        notebook(project, body=body),
        cfg,
        {"learning_rate": 2e-4, "students": ["a"]},
        project / "out",
    )
    assert line.failure == "" and line.minutes > 0
    line = notebooks.execute(notebook(project, body="1 / 0"), cfg, {}, project / "out")
    assert "ZeroDivisionError: division by zero" in line.failure
    assert (project / "out" / "03_train_students.ipynb").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "cell 3: its process was killed, most likely because memory ran out; free some",
        ),
        ("import os; os._exit(0)", "cell 3: its process was killed"),
        ("import sys; sys.exit(2)", "cell 3: SystemExit: 2"),
        ("raise KeyboardInterrupt", "cell 3: KeyboardInterrupt"),
    ],
)
def test_a_kernel_that_ends_says_in_which_cell(project, monkeypatch, body, said):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", project)
    line = notebooks.execute(
        notebook(project, body=body), config.load("smoke"), {}, project / "out"
    )
    assert line.failure.startswith(said) and "\n" not in line.failure


@pytest.mark.notebook
def test_exercises_are_run_where_they_are_asked_for_and_else_not_published(project, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", project)
    path, cfg = notebook(project, body="print('told')"), config.load("smoke")
    book = nbformat.read(path, 4)
    book.cells += [
        nbformat.v4.new_markdown_cell("## Exercises (20 minutes)\n\n### 1 · Guess"),
        nbformat.v4.new_code_cell("guess = None\n# solution\nprint('guessed')"),
        nbformat.v4.new_markdown_cell("### 2 · Check"),
        nbformat.v4.new_code_cell("print('checked')"),
    ]
    nbformat.write(book, path)

    def printed(file):
        cells = json.loads(file.read_text())["cells"]
        return [out["text"] for c in cells for out in c.get("outputs", ())]

    executed = project / "out" / path.name
    assert notebooks.execute(path, cfg, {}, project / "out", exercises=False).failure == ""
    assert "".join(*printed(executed)) == "told\n"
    with pytest.raises(ValueError, match="without exercises; run it again with --exercises"):
        notebooks.publish(executed, path)
    assert notebooks.execute(path, cfg, {}, project / "out").failure == ""
    notebooks.publish(executed, path)
    assert ["".join(said) for said in printed(path)] == ["told\n", "guessed\n", "checked\n"]


@pytest.mark.parametrize(
    "asked, wanted", [([], False), (["--exercises"], True), (["--publish"], True)]
)
def test_the_command_leaves_exercises_out_unless_told(project, monkeypatch, asked, wanted):
    seen = []

    def execute(path, *_, exercises):
        seen.append(exercises)
        return notebooks.Line(path.stem, 1.0, ())

    monkeypatch.setattr(notebooks, "select", lambda only: [notebook(project)])
    monkeypatch.setattr(preflight, "problems", lambda cfg, numbers: [])
    monkeypatch.setattr(notebooks, "execute", execute)
    monkeypatch.setattr(notebooks, "publish", lambda *_: None)
    monkeypatch.setattr(run, "_keep", lambda cfg: 0)
    assert run.main(asked) == 0 and seen == [wanted]


def test_a_run_without_a_folder_to_write_in_gets_a_sentence(project, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", project)
    (project / "out").write_text("a file where a folder is to be")
    line = notebooks.execute(notebook(project), config.load("smoke"), {}, project / "out")
    assert line.failure.startswith("FileExistsError") and "free some disk space" in line.failure


def test_a_missing_kernel_gets_a_sentence(project, monkeypatch):
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel

    def execute(*_, **__):
        raise NoSuchKernel("python3")

    monkeypatch.setattr(notebooks, "NOTEBOOKS", project)
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    line = notebooks.execute(notebook(project), config.load("smoke"), {}, project / "out")
    assert line.failure.startswith("no kernel 'python3' is installed; run `python -m ipykernel")


def test_an_interrupted_command_says_so_and_how_to_go_on(project, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "select", lambda only: [notebook(project)])
    monkeypatch.setattr(preflight, "problems", lambda cfg, numbers: [])
    monkeypatch.setattr(notebooks, "execute", interrupted)
    assert run.main([]) == 130
    assert (
        capsys.readouterr().err
        == "error: interrupted in 03_train_students; what was finished is kept, run again to"
        " resume\n"
    )


# --- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--set", "questons=3"], "'questions'"), (["--preset", "papre"], "'papre'"), (["--set", "questions"], "no '='"),
     (["--set", "questions=x"], "'questions'"), (["--only", "99"], "'99'")],
)  # fmt: skip
def test_a_mistake_ends_with_one_sentence_and_status_2(arguments, named):
    done = command(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and named in line


def test_help_names_the_options():
    done = command("--help")
    assert done.returncode == 0 and all(
        option in done.stdout for option in ("--preset", "--only", "--set", "--resume", "--publish")
    )


@pytest.mark.parametrize(
    "code",
    [
        "import agentlib.runner.run",
        "import agentlib.runner.run as r\ntry: r.main(['--help'])\nexcept SystemExit: pass",
    ],
)
def test_the_runner_starts_without_torch(code):
    heavy = "torch", "transformers", "papermill"
    check = f"{code}\nimport sys; sys.exit(' '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=config.ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_without_notebooks_is_an_error_not_a_crash(tmp_path):
    with pytest.raises(ValueError, match="no numbered notebook"):
        notebooks.select([], tmp_path)


def test_the_command_ends_badly_when_a_notebook_fails_or_figures_are_lacking(
    project, monkeypatch, capsys
):
    draw = notebook(project, name="05_draw_figures.ipynb")
    monkeypatch.setattr(notebooks, "select", lambda only: [draw])
    monkeypatch.setattr(preflight, "problems", lambda cfg, numbers: [])
    for line, told in (
        (notebooks.Line(draw.stem, 1.0, (), "cell 3: ValueError: x"), "cell 3: ValueError: x"),
        (
            notebooks.Line(draw.stem, 1.0, notebooks.FIGURES[1:]),
            f"figures not made: {notebooks.FIGURES[0]}",
        ),
    ):
        monkeypatch.setattr(notebooks, "execute", lambda *_, line=line, **__: line)
        assert run.main([]) == 1 and told in capsys.readouterr().err
    monkeypatch.setattr(
        notebooks, "execute", lambda *_, **__: notebooks.Line(draw.stem, 1.0, notebooks.FIGURES)
    )
    assert run.main([]) == 0 and "fig1, fig2" in capsys.readouterr().out


# --- tables and files -------------------------------------------------------------------------------------------


def test_only_figures_drawn_since_the_start_count_and_only_in_both_forms(tmp_path):
    started = time.time() - 5
    for name, ends in (("fig1_mean_accuracy", (".svg", ".png")), ("fig5_samples", (".svg",))):
        for end in ends:
            (tmp_path / f"{name}{end}").touch()
    assert notebooks.drawn(tmp_path, started) == ["fig1_mean_accuracy"]
    assert notebooks.drawn(tmp_path, time.time() + 5) == []


def test_the_table_adds_up_minutes_and_figures():
    text = run.table(
        [notebooks.Line("03_train", 1.25, ()), notebooks.Line("05_draw", 2.5, ("fig1_x", "fig2_y"))]
    )
    rows = [line.split() for line in text.splitlines()]
    assert (
        rows[2] == ["03_train", "1.2", "-"]
        and rows[3] == ["05_draw", "2.5", "fig1,", "fig2"]
        and rows[-1] == ["total", "3.8", "2"]
    )


def test_starting_afresh_sets_earlier_runs_aside_and_deletes_nothing(tmp_path):
    assert run.set_aside(tmp_path / "runs") is None
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").write_text("kept")
    kept = run.set_aside(tmp_path / "runs")
    assert (kept / "x").read_text() == "kept" and not (tmp_path / "runs").exists()


def test_publishing_copies_outputs_and_nothing_papermill_added(tmp_path):
    mine = notebook(tmp_path)
    done = json.loads(mine.read_text())
    done["cells"].insert(
        1,
        {
            "cell_type": "code",
            "metadata": {"tags": ["injected-parameters"]},
            "source": "preset = 'x'",
            "outputs": [],
            "execution_count": 9,
            "id": "i",
        },
    )
    done["cells"][2] |= {
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "2"}],
        "execution_count": 3,
    }
    done["cells"][2]["metadata"]["papermill"] = {"duration": 1}
    executed = tmp_path / "done.ipynb"
    executed.write_text(json.dumps(done))
    notebooks.publish(executed, mine)
    cells = json.loads(mine.read_text())["cells"]
    assert (
        len(cells) == 2
        and cells[1]["outputs"][0]["text"] == "2"
        and cells[1]["execution_count"] == 3
    )
    assert "papermill" not in mine.read_text() and "injected" not in mine.read_text()
    notebook(tmp_path, body="2 + 2")
    with pytest.raises(ValueError, match=r"is not a run of 03_train_students\.ipynb as it stands"):
        notebooks.publish(executed, mine)
