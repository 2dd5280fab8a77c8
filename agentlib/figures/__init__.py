"""From recorded cases to numbers, tables and the paper's eight figures.

Owns the statistics, the look of a figure, and the list of the paper's claims. Knows nothing of how
a case was produced: most functions take a table of cases (`to_frame`) or plain records. Tables
and figures are in per cent, `summarise` and `wilson_interval` in fractions of 1; intervals are 95 %
intervals, and a question without an answer counts as wrong.
"""

from agentlib import export

__getattr__, __dir__, __all__ = export(
    __name__,
    {
        "accuracy": "fig1_mean_accuracy fig4_math_breakdown fig5_samples",
        "arms": "arm_chart arm_differences arm_table read_arms round_table",
        "behaviour": "fig6_tokens fig7_code_errors fig8_retrieval_calls",
        "claims": (
            "check_claims claim_table code_error_rates prefix_effects prefix_split sag_ledger"
        ),
        "diagrams": "fig2_cot_against_agent fig3_prefix_and_vote",
        "estimates": "Estimate accuracy_table add_missing_cases read_published select size_label",
        "examples": "select_examples select_votes",
        "extra": (
            "accuracy_bars bar_chart claim_chart data_efficiency line_chart loss_curves "
            "ratio_chart scatter_chart"
        ),
        "failures": "FAILURE_CAUSES failure_table read_failures sample_failures write_failures",
        "likelihood": "likelihood_table",
        "recorded": "footer read_cases",
        "statistics": "compare holm summarise to_frame wilson_interval",
        "style": "Chart GREY save_figure",
        "takeaways": "take_home",
        "tables": (
            "NOT_RUN compare_with_paper comparison_table cost_table domain_table format_estimate "
            "format_numbers label_rows mean_table method_label save_table supported_table table2 "
            "table5 table6 table7 table8"
        ),
    },
)
