"""Evaluation: the plan covers the paper's tables and figures, folders name what shapes a case,
runs resume."""

import contextlib
import dataclasses
import time

import pytest
from conftest import Scripted, act

from agentlib import (
    benchmarks,
    cases,
    config,
    cot,
    distill,
    evaluate,
    filtering,
    prompts,
    records,
    teach,
)
from agentlib.benchmarks import search
from agentlib.evaluate import Condition
from agentlib.figures import examples
from agentlib.models import ServerError
from agentlib.runner import preflight
from agentlib.sandbox import Sandbox
from agentlib.training import loop

SMOL = "SmolLM2-135M-Instruct"
TEACHING = config.load("laptop", **config.TEACHING)  # with SAG, sample counts, three trainings
PLANNED = {name: config.load(name) for name in config.PRESETS} | {"teaching": TEACHING}


@pytest.fixture
def cfg(project):
    return config.load("smoke", questions=2)


# --- the plan ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", PLANNED)
def test_the_plan_covers_table_2_on_every_benchmark(planned):
    cfg = PLANNED[planned]
    conditions = evaluate.plan(cfg, "s")
    everywhere = {(a.method, a.n) for a in conditions if a.benchmarks == cfg.benchmarks}
    assert everywhere == {(m, 1) for m in config.METHODS} | {
        (m, cfg.samples) for m in ("agent_distill", "agent_distill_ftp")
    }
    assert all(a.student == "s" for a in conditions)


@pytest.mark.parametrize("planned", PLANNED)
def test_the_plan_covers_every_sample_count_of_figure_5_on_its_panels(planned):
    cfg = PLANNED[planned]
    conditions = evaluate.plan(cfg, cfg.panel_student)

    def counts(method):
        return {
            a.n
            for a in conditions
            if a.method == method and set(cfg.panel_benchmarks) <= set(a.benchmarks)
        }

    assert counts("agent_distill_ftp") >= set(cfg.sample_counts)
    assert counts("cot_distill") >= {1, max(cfg.sample_counts, default=1)}, (
        "the counts between are derived from its chains"
    )
    keys = [(a.method, a.n, a.training, b) for a in conditions for b in a.benchmarks]
    assert len(keys) == len(set(keys)), "nothing is run twice"


def test_samples_are_varied_for_one_student_the_first_where_figure_5s_is_not_there():
    def varied(cfg):
        return [s for s in cfg.students if {a.n for a in evaluate.plan(cfg, s)} > {1, cfg.samples}]

    small = ("Qwen2.5-Coder-0.5B-Instruct", SMOL)
    assert varied(dataclasses.replace(TEACHING, students=small)) == [SMOL]
    assert varied(config.load("paper")) == ["Qwen2.5-3B-Instruct"]
    assert varied(
        config.load("paper", students=["Qwen2.5-7B-Instruct", "Qwen2.5-0.5B-Instruct"])
    ) == ["Qwen2.5-7B-Instruct"]


def test_arms_of_one_adapter_follow_each_other():
    methods = [a.method for a in evaluate.plan(TEACHING, SMOL)]
    assert methods == sorted(methods, key=list(config.METHODS).index)


def test_a_plan_without_sample_counts_has_table_2_alone():
    cfg = config.load("smoke", sample_counts=[])
    assert {a.benchmarks for a in evaluate.plan(cfg, "s")} == {cfg.benchmarks}


def test_a_plan_with_one_sample_has_each_method_greedily_and_once():
    cfg = dataclasses.replace(TEACHING, samples=1, sample_counts=(1,), trainings=1)
    once = [(method, 1) for method in config.METHODS]
    for own in (cfg, config.load("laptop")):
        assert [(a.method, a.n) for a in evaluate.plan(own, SMOL)] == once
    panels = [a for a in evaluate.plan(dataclasses.replace(cfg, sample_counts=(1, 2)), SMOL)]
    assert {(a.method, a.n, a.benchmarks) for a in panels if a.n > 1} == {
        ("agent_distill_ftp", 2, cfg.panel_benchmarks),
        ("cot_distill", 2, cfg.panel_benchmarks),
    }


def test_each_training_is_asked_greedily_and_the_first_one_sampled(project, monkeypatch):
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [])
    once, thrice = (dataclasses.replace(TEACHING, trainings=k) for k in (1, 3))
    more = [c for c in evaluate.plan(thrice, SMOL) if c not in evaluate.plan(once, SMOL)]
    assert [(c.method, c.n, c.training) for c in more] == [
        (method, 1, k) for method in distill.TEACHER_OF for k in (1, 2)
    ]
    first, second, third = (
        Condition(SMOL, "agent_distill", 1, ("teaching-math",), training=k) for k in range(3)
    )
    folders = [evaluate.condition_run(thrice, c).folder.name for c in (first, second, third)]
    assert len(set(folders)) == 3
    assert folders[0] == evaluate.condition_run(once, first).folder.name
    seeds = [
        distill.adapter_run(distill.one_training(thrice, k), SMOL, "agent_distill") for k in (0, 1)
    ]
    assert [run.configuration["seed"] for run in seeds] == [42, 43]


def test_labels_say_how_an_arm_was_sampled():
    assert Condition("s", "agent_distill", 1, ()).label == "Agent distillation"
    assert Condition("s", "agent_distill", 8, ()).label == "Agent distillation + SAG 8"
    assert Condition("s", "cot_distill", 8, ()).label == "CoT distillation + self-consistency 8"


# --- folders ----------------------------------------------------------------------------------------------------


def folder(n=1, method="agent", benchmarks=("teaching-math",), **changed):
    return evaluate.condition_run(
        config.load("smoke", **changed), Condition("s", method, n, benchmarks)
    ).folder


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.9}, {"top_p": 0.5}, {"vote": "as_published"}]
)
def test_sampling_settings_name_the_folder_only_where_there_is_sampling(project, changed):
    assert folder(1) == folder(1, **changed)
    assert folder(4) != folder(4, **changed)


def test_the_number_of_questions_does_not_name_the_folder_and_what_shapes_a_case_does(
    project, monkeypatch
):
    assert folder() == folder(questions=40) == folder(batch_questions=3)
    others = [
        folder(**c)
        for c in ({"max_steps": 2}, {"step_tokens": 9}, {"seed": 1}, {"top_k": 1}, {"passages": 5})
    ]
    others += [folder(4), folder(method="cot"), folder(benchmarks=("teaching-hotpot",))]
    before = folder()
    monkeypatch.setattr(prompts, "RETRY", "Try again.")
    assert len({before, folder(), *others}) == 10


def test_another_adapter_is_another_folder(project):
    file = distill.teach.records_path(config.load("smoke"), "agent")
    case = {"id": "q", "benchmark": "teaching-math", "question": "?", "domain": "math", "correct": True,
            "stopped": "final_answer", "parse_errors": 0,
            "trace": [{"text": "x", "observation": ""}]}  # fmt: skip
    records.write_lines(file, [case])
    assert folder(method="agent_distill") != folder(method="agent_distill", lora_rank=2)
    assert folder(method="agent") == folder(method="agent", lora_rank=2), (
        "an untuned model has no adapter"
    )


# --- running ----------------------------------------------------------------------------------------------------


class Answering(Scripted):
    """Answers every question right, as an agent or in a chain; raises the errors it is given,
    one a call."""

    def __init__(self, questions, *errors):
        golds = {q.text: q.answer for q in questions}
        super().__init__(lambda c, p, k: self.answer(golds, c))
        self.errors = list(errors)

    def answer(self, golds, conversation):
        # after worked examples, if there are any
        if conversation[0]["content"] in (prompts.COT, *prompts.COT_PLAN.values()):
            return f"\\boxed{{{golds[conversation[-1]['content'].rpartition('Question: ')[2]]}}}"
        return act(
            f"final_answer({golds[conversation[1]['content'].rpartition('Question: ')[2]]!r})"
        )

    def generate(self, conversations, **settings):
        if self.errors and (error := self.errors.pop(0)):
            raise error
        time.sleep(0.01)
        return super().generate(conversations, **settings)


@pytest.mark.parametrize("wording", ["plain", "plan"])
def test_untuned_models_are_shown_the_worked_chains_of_a_wording_and_distilled_ones_none(
    cfg, box, monkeypatch, wording
):
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [])
    cfg = dataclasses.replace(cfg, wording=wording)
    asked = benchmarks.load("teaching-hotpot", 1)
    turns = {}
    for method in ("cot", "cot_distill"):
        model = Answering(asked)
        (case,) = evaluate.evaluate(
            cfg, Condition("s", method, 1, ("teaching-hotpot",)), model, asked, box=box, search=None
        )
        assert case["wording"] == wording
        turns[method] = len(model.calls[0]["conversations"][0])
    shown = {"plain": 0, "plan": len(prompts.COT_EXAMPLES["factual"])}[wording]
    assert turns == {"cot": 2 + 2 * shown, "cot_distill": 2}


def test_an_arm_gives_one_graded_case_a_question_in_order_and_resumes(cfg, box):
    condition = Condition("s", "agent", 1, ("teaching-math", "teaching-hotpot"))
    asked = [q for name in condition.benchmarks for q in benchmarks.load(name, 2)]
    model = Answering(asked)
    found = evaluate.evaluate(cfg, condition, model, asked, box=box, search=None)
    assert [c["id"] for c in found] == [q.id for q in asked] and all(c["correct"] for c in found)
    assert {(c["model"], c["method"], c["n"], c["temperature"], c["preset"]) for c in found} == {
        ("s", "agent", 1, 0.0, "smoke")
    }
    calls = len(model.calls)
    assert (
        evaluate.evaluate(cfg, condition, model, asked, box=box, search=None) == found
        and len(model.calls) == calls
    )
    assert "Rules:" in model.calls[0]["conversations"][0][0]["content"], (
        "an untuned model gets the full prompt"
    )


def test_cases_say_what_weights_in_what_precision_on_what_device_by_what_engine(cfg, box):
    condition, asked = (
        Condition("s", "agent", 1, ("teaching-math",)),
        benchmarks.load("teaching-math", 2),
    )
    model = Answering(asked)
    (served,) = evaluate.evaluate(cfg, condition, model, asked[:1], box=box, search=None)
    model.weights, model.precision, model.device = "hub", "bf16", "cuda"
    model.engine = "vllm"
    _, here = evaluate.evaluate(cfg, condition, model, asked, box=box, search=None)
    assert [tuple(case[name] for name in cases.ANSWERED_BY) for case in (served, here)] == [
        ("server",) * 4,
        ("hub", "bf16", "cuda", "vllm"),
    ]


class Noted(Exception):
    """What was fetched."""


@pytest.mark.parametrize("source", config.WEIGHTS)
@pytest.mark.parametrize(
    ("opened", "fetched", "name"),
    [(lambda c: evaluate.open_student(c, SMOL, ()), "fetch", SMOL),
     (lambda c: evaluate.open_student(dataclasses.replace(c, student_server="http://h"), SMOL, ()), "fetch_tokenizer", SMOL),
     (lambda c: teach.open_teacher(c).__enter__(), "fetch", "Qwen2.5-Coder-1.5B-Instruct"),
     (lambda c: teach.open_teacher(dataclasses.replace(c, teacher_server="http://h")).__enter__(), "fetch_tokenizer", "Qwen2.5-Coder-1.5B-Instruct"),
     (search.encoder, "fetch", "all-MiniLM-L6-v2"), (lambda c: distill.examples(c, SMOL, "agent_distill"), "fetch_tokenizer", SMOL),
     (lambda c: loop._student(SMOL, c, "cpu", "fp32"), "fetch", SMOL)],
)  # fmt: skip
def test_every_model_of_a_configuration_comes_from_where_its_weights_are_to_come_from(
    project, monkeypatch, opened, fetched, name, source
):
    def note(*asked):
        raise Noted(*asked)

    monkeypatch.setattr(evaluate.distill.weights, fetched, note)
    with pytest.raises(Noted) as noted:
        opened(dataclasses.replace(TEACHING, weights=source))
    assert noted.value.args == (name, source)


def test_a_teacher_from_the_hub_is_not_run_by_llama_cpp_on_the_file_of_a_wheel(project):
    cfg = dataclasses.replace(TEACHING, weights="hub", teacher_server="")
    with (
        pytest.raises(
            ValueError, match="is to come from the hub, but setting 'teacher_server' is ''"
        ),
        teach.open_teacher(cfg),
    ):
        pass
    assert not all(check.met for check in preflight.checks(cfg, ["02"]))


def test_a_distilled_student_gets_the_short_prompt_and_sampling_settings(cfg, box, monkeypatch):
    condition = Condition("s", "agent_distill", 4, ("teaching-math",))
    monkeypatch.setattr(
        evaluate, "condition_run", lambda cfg, condition: records.Run(cfg.runs, "condition", {})
    )
    asked = benchmarks.load("teaching-math", 2)
    model = Answering(asked)
    found = evaluate.evaluate(cfg, condition, model, asked, box=box, search=None)
    assert "Rules:" not in model.calls[0]["conversations"][0][0]["content"]
    assert (model.calls[0]["n"], model.calls[0]["temperature"]) == (4, cfg.temperature) and found[
        0
    ]["temperature"] == cfg.temperature
    assert len(found[0]["trace"][0]["candidates"]) == 4


def test_chains_of_one_batch_share_its_seconds_equally_whoever_asks(cfg):
    asked = benchmarks.load("teaching-math", 4)
    condition = Condition("s", "cot", 1, ("teaching-math",))
    evaluated = evaluate.evaluate(cfg, condition, Answering(asked), asked, box=None, search=None)
    taught = list(teach._answers(cfg, Answering(asked), None, teach.Job("cot", 0, {}), asked))
    for found in (evaluated, taught):
        assert (
            len({case["seconds"] for case in found}) == 1 and len(found) == 4 <= cfg.batch_questions
        )


@pytest.mark.parametrize("error", [MemoryError("out of memory"), ConnectionError("lost retriever")])
def test_an_outage_that_lasts_is_counted_and_a_resume_asks_only_the_rest(project, box, error):
    cfg = config.load("smoke", batch_questions=1)
    condition, asked = (
        Condition("s", "cot", 1, ("teaching-math",)),
        benchmarks.load("teaching-math", 8),
    )
    model = Answering(asked, None, *[error] * 8)
    with pytest.raises(
        RuntimeError, match=rf"7 of 8 questions are unanswered \({error}\); .* resume"
    ):
        evaluate.evaluate(cfg, condition, model, asked, box=None, search=None)
    assert len(model.errors) == 8 - 1 - cases.MAX_CONSECUTIVE_FAILURES, (
        "what nothing answers is not asked for ever"
    )
    run = evaluate.condition_run(cfg, condition)
    assert len(run.finished()) == 1 and sum("error" in r for r in records.read(run.file)) == 7
    model.errors, calls = [], len(model.calls)
    found = evaluate.evaluate(cfg, condition, model, asked, box=None, search=None)
    assert [c["id"] for c in found] == [q.id for q in asked] and len(model.calls) == calls + 7


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Expected all tensors on one device"), KeyError("mps"), ValueError("wrong")],
    ids=repr,
)
def test_a_bug_is_no_outage_and_is_not_tried_again(cfg, error):
    condition, asked = (
        Condition("s", "cot", 1, ("teaching-math",)),
        benchmarks.load("teaching-math", 3),
    )
    model = Answering(asked, error)
    with pytest.raises(type(error)) as raised:
        evaluate.evaluate(cfg, condition, model, asked, box=None, search=None)
    assert (
        raised.value is error
        and model.calls == []
        and list(records.read(evaluate.condition_run(cfg, condition).file)) == []
    )


def test_a_question_that_nothing_answers_costs_only_itself(cfg):
    condition, asked = (
        Condition("s", "cot", 1, ("teaching-math",)),
        benchmarks.load("teaching-math", 6),
    )

    class Refusing(Answering):
        def generate(self, conversations, **settings):
            if any(asked[2].text in c[-1]["content"] for c in conversations):
                raise ServerError("status 400")
            return super().generate(conversations, **settings)

    with pytest.raises(RuntimeError, match=r"1 of 6 questions are unanswered \(status 400\)"):
        evaluate.evaluate(cfg, condition, Refusing(asked), asked, box=None, search=None)
    run = evaluate.condition_run(cfg, condition)
    assert set(run.finished()) == {q.id for q in asked} - {asked[2].id}
    assert [r["id"] for r in records.read(run.file) if r.get("error")] == [asked[2].id]


def test_a_lost_retriever_is_an_error_record_and_never_an_answer(cfg):
    condition, asked = (
        Condition("s", "agent", 1, ("teaching-hotpot",)),
        benchmarks.load("teaching-hotpot", 2),
    )
    reply = act("try:\n    print(web_search('x'))\nexcept Exception:\n    final_answer('a guess')")

    def gone(query):
        raise ConnectionError("retriever cannot be reached")

    with (
        Sandbox(tools={"web_search": gone}, seconds=5.0) as lonely,
        pytest.raises(RuntimeError, match="2 of 2 questions"),
    ):
        evaluate.evaluate(
            cfg, condition, Scripted(lambda *_: reply), asked, box=lonely, search=None
        )
    lines = list(records.read(evaluate.condition_run(cfg, condition).file))
    assert len(lines) == 2 and all("retriever cannot be reached" in line["error"] for line in lines)
    assert not any("prediction" in line for line in lines)


def test_more_questions_go_on_in_the_same_folder(cfg):
    condition, asked = (
        Condition("s", "cot", 1, ("teaching-math",)),
        benchmarks.load("teaching-math", 3),
    )
    model = Answering(asked)
    evaluate.evaluate(cfg, condition, model, asked[:1], box=None, search=None)
    assert len(evaluate.evaluate(cfg, condition, model, asked, box=None, search=None)) == 3
    assert sum(len(call["conversations"]) for call in model.calls) == 3


def test_only_cot_with_rag_searches(cfg, monkeypatch):
    monkeypatch.setattr(
        evaluate,
        "condition_run",
        lambda cfg, condition: records.Run(cfg.runs, condition.method, {}),
    )
    asked, queries = benchmarks.load("teaching-hotpot", 2), []

    def search(query):
        queries.append(query)
        return "[1] passage"

    for method in ("cot", "cot_distill", "cot_distill_rag"):
        found = evaluate.evaluate(
            cfg,
            Condition("s", method, 1, ("teaching-hotpot",)),
            Answering(asked),
            asked,
            box=None,
            search=search,
        )
        assert all(c["correct"] for c in found)
    assert queries == [q.text for q in asked] and {c["passages"] for c in found} == {"[1] passage"}


# --- derived and published --------------------------------------------------------------------------------------


def sampled_case(*answers, gold="4"):
    question = benchmarks.load("teaching-math", 1)[0]
    question = type(question)(**question.asdict() | {"answer": gold})
    completions = tuple(
        cot.Completion(f"\\boxed{{{a}}}", 5, 10 + i, "stop") for i, a in enumerate(answers)
    )
    chain = cot.CoTResult(question.id, completions, answers, cot.majority(answers))
    return cases.cot_case(question, chain, model="s", method="cot_distill", n=len(answers))


def test_fewer_chains_are_the_votes_of_the_first_ones():
    case = sampled_case("4", "5", "5", "5", "4", "4", "4", "4")
    derived = {c["n"]: c for c in evaluate.fewer_chains([case], (1, 2, 4, 8))}
    assert case["correct"] and sorted(derived) == [2, 4]
    assert (derived[2]["prediction"], derived[2]["correct"]) == ("4", True)
    assert (derived[4]["prediction"], derived[4]["correct"]) == ("5", False)
    assert (
        derived[2]["completion_tokens"] == 10 + 11
        and derived[4]["completion_tokens"] == 10 + 11 + 12 + 13
    )
    assert all(c["derived"] and c["id"] == case["id"] for c in derived.values())


def test_nothing_is_derived_from_greedy_or_agent_cases():
    agent = {"id": "q", "n": 8, "trace": []}
    assert evaluate.fewer_chains([sampled_case("4"), agent], (1, 2, 4, 8)) == []


def test_published_cases_are_small_and_keep_what_figures_need(cfg):
    case = sampled_case("4", "5") | {"trace": [1], "prefix": "x", "last_words": "y"}
    (found,) = records.read(evaluate.publish(cfg, [case]))
    assert not found.keys() & {
        "trace",
        "text",
        "question",
        "passages",
        "answers",
        "prefix",
        "last_words",
        "seconds",
    }
    needed = (
        "id benchmark level subject prediction gold correct stopped steps parse_errors"
        " execution_errors tool_calls"
    )
    assert found.keys() >= {*needed.split(), "prompt_tokens", "completion_tokens"}


def test_the_diagrams_show_a_search_that_helped_and_a_vote_that_was_won(cfg, monkeypatch):
    def vote(*groups):
        return {
            "failure": None,
            "candidates": [{"code": f"x = {g}\nfinal_answer(x)", "group": g} for g in groups],
        }

    def case(method, number, correct, n=1, **more):
        own = {"text": "a chain"} if method == "cot_distill" else {"trace": [{}]}
        return (
            {
                "model": cfg.students[-1],
                "benchmark": "none",
                "method": method,
                "n": n,
                "id": f"q{number}",
                "question": f"question {number}",
                "gold": "4",
                "prediction": "5",
                "correct": correct,
                "tool_calls": 0,
            }
            | own
            | more
        )

    taught = case("agent_ftp", 9, True, prefix="Thought: first")
    monkeypatch.setattr(evaluate.cases, "read", lambda file: [taught])
    monkeypatch.setattr(filtering, "passes_filter", lambda case: True)
    won = vote(0, 0, 0, None, 1)
    found = [
        case("cot_distill", 1, False), case("agent_distill_ftp", 1, True),
        case("cot_distill", 2, False), case("agent_distill_ftp", 2, True, tool_calls=1, trace=[{}, {}]),
        case("cot_distill", 3, True), case("agent_distill_ftp", 3, True, tool_calls=1),
        case("agent_distill", 4, True, n=5, trace=[vote(0, 1, 2, 3, 4), vote(0, 0, 0, 0, 0), won, vote(None, None, None, None, None)]),
    ]  # fmt: skip
    chosen = examples.select_examples(cfg, found)
    assert (
        chosen["pair"]["agent"]["question"] == "question 2"
        and chosen["pair"]["cot"]["text"] == "a chain"
    )
    assert chosen["vote"] == won and chosen["prefix"]["prefix"] == "Thought: first"
    assert chosen["vote_case"]["question"] == "question 4" and chosen["vote_case"]["correct"]


# --- students on a server ---------------------------------------------------------------------------------------


@pytest.mark.model
def test_an_adapter_that_the_student_server_lacks_stops_before_anything_is_asked(
    project, monkeypatch
):
    cfg = config.load("smoke", student_server="http://127.0.0.1:9")
    monkeypatch.setattr(distill, "training_cases", lambda cfg, method: [])
    for method in distill.TEACHER_OF:
        with distill.adapter_run(cfg, SMOL, method) as run:
            records.write_lines(run.folder / "loss.jsonl", [{"step": 0, "loss": 1.0}])
            records.write_json(run.folder / "finished.json", {"steps": 1})
            (run.folder / "student").mkdir()
    monkeypatch.setattr(evaluate.ServerModel, "listed", lambda self: [SMOL])
    monkeypatch.setattr(
        evaluate.ServerModel, "generate", lambda *a, **k: pytest.fail("the server was asked")
    )
    with pytest.raises(
        RuntimeError, match=r"lists SmolLM2-135M-Instruct, expected the adapter 'adapter-smollm2"
    ):
        evaluate.evaluate_student(cfg, SMOL, box=None, search=None)


# --- the teacher on the test questions ----------------------------------------------------------------------------


def test_the_teacher_is_prompted_in_two_ways_on_every_benchmark():
    students = ("Qwen2.5-Coder-0.5B-Instruct", SMOL)
    cfg = config.load("laptop", teacher_tested=True, students=students)
    assert evaluate.models(cfg) == [*students, cfg.teacher]
    assert evaluate.models(dataclasses.replace(cfg, teacher_tested=False)) == list(students)
    found = evaluate.plan(cfg, cfg.teacher)
    assert [(one.method, one.n, one.benchmarks) for one in found] == [
        ("cot", 1, cfg.benchmarks),
        ("agent", 1, cfg.benchmarks),
    ]
    own = config.load("laptop", teacher_tested=True, students=[cfg.teacher])
    assert evaluate.models(own) == [cfg.teacher] and len(evaluate.plan(own, cfg.teacher)) > 2


def test_a_recorded_teacher_is_not_asked_and_a_live_one_is(project, monkeypatch):
    cfg = config.load("smoke", teacher_tested=True, benchmarks=["teaching-math"], questions=2)
    monkeypatch.setattr(evaluate.teach, "open_teacher", lambda cfg: pytest.fail("opened"))
    assert evaluate.evaluate_teacher(cfg, box=None, search=None) == []  # none is recorded
    off = dataclasses.replace(cfg, teacher_tested=False, teacher_records="")
    assert evaluate.evaluate_teacher(off, box=None, search=None) == []
    live = dataclasses.replace(cfg, teacher_records="", workers=3)
    opened = []

    @contextlib.contextmanager
    def open_teacher(cfg):
        opened.append(cfg.workers)
        yield "the teacher"

    monkeypatch.setattr(evaluate.teach, "open_teacher", open_teacher)
    monkeypatch.setattr(
        evaluate, "evaluate", lambda cfg, one, model, asked, **_: [(one.method, model, len(asked))]
    )
    assert evaluate.evaluate_teacher(live, box=None, search=None) == [
        ("cot", "the teacher", 2),
        ("agent", "the teacher", 2),
    ]
    assert opened == [0]
