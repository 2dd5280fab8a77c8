"""The colours of figures and pages: Okabe and Ito's palette, safe for colour-blind readers.

No meaning depends on a colour alone: methods also differ by hatch, and groups of a vote by name.
"""

SKY, BLUE, PURPLE, ORANGE, GREEN, VERMILLION, YELLOW = (
    "#56B4E9",
    "#0072B2",
    "#CC79A7",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#F0E442",
)
GREY = "#595959"
LIGHT_VERMILLION = "#F2B98F"
COLOURS = {  # of methods, in all figures; the colour of agent prompting means nothing else
    "cot": SKY,
    "cot_distill": BLUE,
    "cot_distill_rag": PURPLE,
    "agent": ORANGE,
    "agent_distill": GREEN,
    "agent_distill_ftp": VERMILLION,
}
GROUPS = (SKY, YELLOW, GREEN, PURPLE, BLUE, VERMILLION)  # of a vote, the largest group first
SERIES = (SKY, BLUE, PURPLE, GREEN, VERMILLION, GREY)  # of a chart whose bars are no methods
