"""From recorded cases to numbers, tables and the paper's eight figures.

Owns statistics, how a figure looks, and what is claimed. Does not know how a case came about.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(__name__, {
    "accuracy": "fig1_mean_accuracy fig4_math_breakdown fig5_samples",
    "behaviour": "fig6_tokens fig7_code_errors fig8_retrieval_calls",
    "diagrams": "fig2_cot_against_agent fig3_prefix_and_vote",
    "estimates": "published",
    "style": "alt_text save",
})  # fmt: skip
