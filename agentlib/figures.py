"""The paper's eight figures, all found here, and how they are saved.

Owns nothing but their list: Figs. 1, 4 and 5 come from `accuracy_figures`, 2 and 3 from `diagrams`, 6 to 8 from
`conduct_figures`. Knows nothing of cases.
"""

from agentlib.accuracy_figures import fig1_mean_accuracy, fig4_math_breakdown, fig5_samples
from agentlib.charts import alt_text, save
from agentlib.conduct_figures import fig6_tokens, fig7_code_errors, fig8_retrieval_calls
from agentlib.diagrams import fig2_cot_against_agent, fig3_prefix_and_vote
from agentlib.estimates import published

__all__ = [
    "alt_text", "fig1_mean_accuracy", "fig2_cot_against_agent", "fig3_prefix_and_vote", "fig4_math_breakdown",
    "fig5_samples", "fig6_tokens", "fig7_code_errors", "fig8_retrieval_calls", "published", "save",
]  # fmt: skip
