"""Settings: presets, overrides, types, and errors that name the thing."""

import dataclasses

import pytest

from agentlib import config, distill, evaluate, teach
from agentlib.benchmarks import sets


def one_sentence(error: pytest.ExceptionInfo, *names: str) -> bool:
    text = str(error.value)
    return "\n" not in text and all(name in text for name in names)


@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_each_preset_loads_under_its_own_name_and_folders(preset):
    cfg = config.load(preset)
    assert cfg.preset == preset
    assert cfg.runs == config.ROOT / "runs" / preset
    assert cfg.figures == config.ROOT / "figures" / preset
    assert cfg.records == config.ROOT / "figures" / "records" / preset


def test_the_paper_preset_holds_the_published_values():
    cfg = config.load("paper")
    assert (cfg.teacher, cfg.lora_rank, cfg.lora_alpha, cfg.epochs, cfg.batch_size) == (
        "Qwen2.5-32B-Instruct",
        64,
        128,
        2,
        8,
    )
    assert (cfg.learning_rate, cfg.lora_dropout, cfg.max_length, cfg.cot_max_length) == (
        2e-4,
        0.05,
        10240,
        4096,
    )
    assert (cfg.samples, cfg.temperature, cfg.top_p, cfg.max_steps, cfg.top_k) == (
        8,
        0.4,
        0.8,
        5,
        3,
    )
    assert len(cfg.benchmarks) == 8 and len(cfg.students) == 4 and cfg.questions == 0


def other(cfg: config.Config, name: str):
    """Another value that a setting can have."""
    choices = {"tuning": "qlora", "vote": "as_published", "retriever": "bm25", "precision": "fp32", "weights": "hub", "server_seed": "omitted",
               "teacher_server": "http://host:8000", "top_p": 0.5, "first_thought": "gated", "wording": "plan",
               "live_methods": ("cot",), "sweep_taught": ("all",), "taught_on": "matched", "keep": "right", "teacher_tested": False, "engine": "own"}  # fmt: skip
    found = getattr(cfg, name)
    if name in choices:
        return choices[name]
    if isinstance(found, tuple):
        return (*found, found[0])
    return found + {str: "http://other", int: 1, float: 0.1}[type(found)]


NEVER = {
    "preset", "students", "benchmarks", "questions", "train_questions", "train_sets", "panel_benchmarks", "panel_student", "sample_counts",
    "sweep_temperatures", "sweep_benchmarks", "seed_benchmarks", "sweep_questions", "sweep_seeds", "sweep_tunings", "sweep_examples",
    "judge_server", "judge", "batch_questions", "workers", "ray_address", "samples", "teacher_tries", "teacher_kept", "teacher_records", "trainings",
    "live_methods", "sweep_taught", "taught_on", "keep", "teacher_tested", "improve_questions", "improve_runs", "improve_later_runs", "improve_steps",
}  # fmt: skip
SEARCHED = {"corpus", "passages", "encoder", "retriever", "retriever_url", "top_k"}
ASKED = SEARCHED | {
    "seed",
    "max_steps",
    "step_tokens",
    "cot_tokens",
    "context_tokens",
    "sandbox_seconds",
    "sandbox_memory_mb",
    "precision",
    "engine",
    "weights",
    "student_server",
    "wording",
}
SAMPLED = {"temperature", "top_p", "vote"}
TRAINED = {"tuning", "lora_rank", "lora_alpha", "lora_dropout", "learning_rate", "full_learning_rate", "epochs", "batch_size", "max_length",
           "cot_max_length"}  # fmt: skip
TAUGHT = {
    "seed",
    "teacher",
    "teacher_server",
    "weights",
    "precision",
    "engine",
    "context_tokens",
    "wording",
}
ACTED = TAUGHT | SEARCHED | {"max_steps", "step_tokens", "sandbox_seconds", "sandbox_memory_mb"}


def condition(method: str, n: int = 1, **own):
    cfg = config.load("laptop", **config.TEACHING | own)
    return cfg, lambda cfg: evaluate.condition_run(
        cfg, evaluate.Condition("s", method, n, ("teaching-math",))
    )


def taught(method: str, attempt: int = 0, **own):
    cfg = config.load("laptop", **config.TEACHING | own)
    return cfg, lambda cfg: teach.teacher_run(cfg, method, attempt)


def trained(method: str):
    cfg = config.load("laptop", **config.TEACHING)
    return cfg, lambda cfg: distill.adapter_run(cfg, "s", method)


# where a model runs elsewhere, neither its address nor the engine of this process names a folder
ELSEWHERE = {"student_server", "teacher_server", "engine"}
SERVED = {"student_server": "http://host:8000"}
FOLDERS = {
    "untuned, once": (condition("cot"), ASKED | {"tuning"}),
    "untuned, sampled": (condition("agent", 8), ASKED | SAMPLED | {"tuning"}),
    "distilled": (condition("agent_distill"), ASKED | TRAINED),
    "untuned on a server": (condition("agent", **SERVED), ASKED - ELSEWHERE),
    "sampled on a server": (condition("cot", 8, **SERVED), (ASKED - ELSEWHERE) | SAMPLED | {"server_seed"}),
    "teacher, CoT": (taught("cot"), TAUGHT | {"cot_tokens", "train_sets"}),
    "teacher, agent": (taught("agent"), ACTED | {"train_sets"}),
    "teacher, prefix": (taught("agent_ftp"), ACTED | {"cot_tokens", "train_sets", "first_thought"}),
    "teacher, another try": (taught("cot", 1), TAUGHT | {"cot_tokens", "train_sets", "top_p"}),
    "teacher on a server": (taught("cot", 1, teacher_server="http://h:1"), (TAUGHT - ELSEWHERE) | {"cot_tokens", "train_sets", "top_p", "server_seed"}),
    "training": (trained("agent_distill"), TRAINED | {"seed", "precision", "weights"}),
    "training, CoT + RAG": (trained("cot_distill_rag"), TRAINED | SEARCHED | {"seed", "precision", "weights"}),
}  # fmt: skip


@pytest.mark.parametrize("run", FOLDERS)
def test_a_run_folder_is_named_by_every_setting_that_shapes_it_and_by_no_other(
    project, monkeypatch, run
):
    """Each setting in turn has another value; a new setting must be put into one of the sets
    above."""
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [])
    monkeypatch.setattr(sets, "fingerprint", str)
    (cfg, run_of), expected = FOLDERS[run]
    names = {field.name for field in dataclasses.fields(cfg)} - {"preset"}
    assert names - NEVER == ASKED | SAMPLED | TRAINED | TAUGHT | {
        "server_seed",
        "train_examples",
        "first_thought",
    }, "of these, each run has its part"
    changed = {name: dataclasses.replace(cfg, **{name: other(cfg, name)}) for name in names}
    assert cfg not in changed.values()
    assert {
        name for name, one in changed.items() if run_of(one).folder.name != run_of(cfg).folder.name
    } == expected


def test_a_run_whose_engine_is_chosen_by_the_machine_has_the_name_it_had(project):
    (cfg, run_of), _ = FOLDERS["untuned, once"]
    assert cfg.engine == "auto" and "engine" not in run_of(cfg).configuration
    asked = dataclasses.replace(cfg, engine="transformers")
    assert run_of(asked).configuration == run_of(cfg).configuration | {"engine": "transformers"}


@pytest.mark.parametrize("setting", ["student_server", "teacher_server", "retriever_url"])
def test_the_address_of_a_server_names_no_folder_but_that_there_is_one_does(
    project, monkeypatch, setting
):
    def folders(address):
        cfg = config.load("laptop", **{setting: address})
        return [
            evaluate.condition_run(
                cfg, evaluate.Condition("s", "agent", 8, ("teaching-math",))
            ).folder,
            teach.teacher_run(cfg, "agent").folder,
        ]

    none, one, another = folders(""), folders("http://a:8000"), folders("https://b.example:9/v1")
    assert none != one == another


def test_a_teacher_on_llama_cpp_or_in_process_or_on_a_server_is_three_teachers(project):
    where = ("", config.IN_PROCESS, "http://host:8000")
    assert [config.load("laptop", teacher_server=url).teacher_on for url in where] == [
        "llama.cpp",
        "in-process",
        "server",
    ]
    assert (
        len(
            {
                teach.teacher_run(config.load("laptop", teacher_server=url), "cot").folder
                for url in where
            }
        )
        == 3
    )


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load("smoke").questions = 3


def test_overrides_are_applied_and_the_preset_is_left_alone():
    assert config.load("smoke", questions=7).questions == 7
    assert config.load("smoke").questions == config.SMOKE.questions != 7


def test_whole_numbers_become_floats_and_lists_become_tuples():
    cfg = config.load("smoke", temperature=1, students=["a", "b"], sample_counts=[1, 2])
    assert type(cfg.temperature) is float and cfg.temperature == 1.0
    assert cfg.students == ("a", "b") and cfg.sample_counts == (1, 2)
    assert hash(cfg) == hash(
        config.load("smoke", temperature=1.0, students=("a", "b"), sample_counts=(1, 2))
    )


def test_an_unknown_preset_is_named_with_the_known_ones():
    with pytest.raises(ValueError) as error:
        config.load("papre")
    assert one_sentence(error, "'papre'", "smoke", "laptop", "paper")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("questons", "questions"), ("learning_rat", "learning_rate"), ("sample", "samples")],
)
def test_an_unknown_setting_is_named_with_the_nearest_known_one(wrong, near):
    with pytest.raises(ValueError) as error:
        config.load("smoke", **{wrong: 3})
    assert one_sentence(error, repr(wrong), repr(near))


def test_a_setting_like_no_other_is_answered_with_all_known_ones():
    with pytest.raises(ValueError) as error:
        config.load("smoke", zzz=1)
    assert one_sentence(error, "'zzz'", "questions", "lora_rank")


@pytest.mark.parametrize(
    ("name", "value"),
    [("questions", "3"), ("questions", 3.0), ("questions", True), ("learning_rate", "2e-4"), ("temperature", False),
     ("students", "SmolLM2-135M-Instruct"), ("teacher", None), ("seed", None)],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_by_name_value_and_type(name, value):
    with pytest.raises(ValueError) as error:
        config.load("smoke", **{name: value})
    assert one_sentence(error, repr(name), repr(value), type(value).__name__, "expected")


@pytest.mark.parametrize(
    ("name", "value"), [("sample_counts", ("a",)), ("students", (1,)), ("benchmarks", (None,))]
)
def test_a_list_of_things_of_the_wrong_type_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        config.load("smoke", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("tuning", "lorra"), ("vote", "majority"), ("retriever", "bm52"), ("wording", "planned")],
)
def test_a_choice_that_is_none_is_refused_with_the_choices(name, value):
    with pytest.raises(ValueError) as error:
        config.load("smoke", **{name: value})
    assert one_sentence(error, repr(name), repr(value), "expected one of")


@pytest.mark.parametrize(
    "name",
    [
        "top_k",
        "max_steps",
        "step_tokens",
        "cot_tokens",
        "samples",
        "epochs",
        "batch_size",
        "lora_rank",
    ],
)
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name!r} is 0, expected 1 or more"):
        config.load("smoke", **{name: 0})


@pytest.mark.parametrize(("name", "value"), [("questions", -1), ("temperature", -0.1), ("top_p", 0.0), ("top_p", 1.5),
                                             ("learning_rate", -1.0), ("batch_questions", 0)])  # fmt: skip
def test_values_no_run_could_use_are_refused_before_hours_of_work(name, value):
    with pytest.raises(ValueError, match=name):
        config.load("smoke", **{name: value})


def test_the_cache_follows_its_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTLIB_HOME", str(tmp_path))
    assert config.home() == tmp_path
    monkeypatch.delenv("AGENTLIB_HOME")
    assert config.home().name == "agentlib"


@pytest.mark.parametrize(
    ("address", "root"),
    [("http://h:8", "http://h:8"), ("http://h:8/", "http://h:8"), ("http://h:8/v1", "http://h:8"), (" http://h:8/v1// ", "http://h:8"),
     ("http://h:8/v1/chat/completions", "http://h:8"), ("http://h:8/v1/completions/", "http://h:8"), ("http://h:8/v1/models", "http://h:8"),
     ("http://h:8/retrieve/", "http://h:8"), ("https://api.example.org/v1", "https://api.example.org"), ("http://[::1]:8/v1", "http://[::1]:8"),
     ("https://example.org/api/v1", "https://example.org/api"), ("http://v1", "http://v1"), ("HTTP://H:8", "HTTP://H:8")],
)  # fmt: skip
def test_a_servers_root_is_the_same_however_its_address_ends(address, root):
    assert config.server_root(address) == root == config.server_root(root)


@pytest.mark.parametrize(
    "name", ["teacher_server", "student_server", "judge_server", "retriever_url"]
)
def test_a_setting_without_a_scheme_is_said_at_once(name):
    with pytest.raises(
        ValueError,
        match=(
            rf"setting '{name}': address 'localhost:8000/v1' is none .*did you mean"
            r" 'http://localhost:8000'\?"
        ),
    ):
        config.load("smoke", **{name: "localhost:8000/v1"})
    assert config.load("smoke", teacher_server=config.IN_PROCESS)
