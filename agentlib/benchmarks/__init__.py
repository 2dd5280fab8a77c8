"""The questions: the paper's sets, their slice for a laptop with its Wikipedia passages, the
teaching set, your own file; and the search that a configuration's questions need.

Owns which questions and passages a name means. Does not know models or agents.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "sets": (
            "QUESTION_SETS=NAMES are_here fingerprint is_supported load supporting_passages"
            " test_questions training_questions"
        ),
        "search": (
            "build_search=build open_encoder=encoder open_searcher passages=corpus web_search"
        ),
        "question_file": "from_file split_questions",
    },
)
