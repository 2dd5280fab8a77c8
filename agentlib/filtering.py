"""The filter on the teacher's trajectories: which of them students are trained on (§4.1)."""

from agentlib.cases import Case


def passes_filter(case: Case) -> bool:
    """The paper's filter on teacher cases: right, answered by final_answer, no step that failed to
    parse.

    Steps that failed to run are kept: they show the student how to repair (reference code).
    """
    if case.get("error") or not case["correct"]:
        return False
    return (
        case["stopped"] == ("final_answer" if "trace" in case else "stop")
        and not case["parse_errors"]
    )
