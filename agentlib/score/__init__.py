"""Whether an answer is right: maths by value, facts by words, or by a judge.

Owns normalisation, the algebra process that can be killed, and other gradings to compare with. Does
not know how an answer came about.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "grading": "Grade correct_as_published extract_answer grade is_date normalise",
        "judge": "Judge",
        "regrading": "open_judge regrade select_disagreements summarise_grades=summarise",
    },
)
