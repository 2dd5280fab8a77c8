"""How cases, votes, token masks and source look on a notebook's page, and the checks of exercises.

Owns static HTML, and the widgets of a live notebook, each of which has a static picture, too. Knows
nothing of models, or of how a case was produced.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "exercises": "check_exercise",
        "show": (
            "revote show_case show_cases show_passages show_settings show_side_by_side show_steps "
            "show_token_mask show_values show_vote"
        ),
        "source": "show_source",
        "widgets": "browse_cases draw_live explore_vote talk",
    },
)
