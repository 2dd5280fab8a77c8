"""The two sentences below a figure: what is seen in it, and what is not.

Every function takes what its figure draws and returns both sentences. All numbers in them are those
of the records, and a difference is called one only if it is more than chance (paired, p < 0.05).
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from agentlib.figures import statistics
from agentlib.figures.estimates import Estimate, select, size_label
from agentlib.figures.style import Caption, format_range
from agentlib.figures.tables import NOT_RUN, UNSETTLED

Drawn = Sequence[tuple[str, str, Sequence[Estimate | None]]]  # label, method, one estimate a group


def join_words(words: Sequence[str]) -> str:
    """Words as a list in prose: "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _sentence(*parts: str) -> str:
    """The parts that say something, as one sentence."""
    text = "; ".join(part for part in parts if part)
    return f"{text[0].upper()}{text[1:]}."


def _left_out(names: Sequence[str]) -> str:
    return f"{join_words(names)}, left out: {NOT_RUN}" if names else ""


def _compare(cases: pd.DataFrame, a: tuple[str, int], b: tuple[str, int]) -> dict:
    """The paired comparison of two (method, n); empty if a side has no finished question."""
    sides = [select(cases, method=method, n=n) for method, n in (a, b)]
    if any(side["correct"].notna().sum() == 0 for side in sides):
        return {}
    return statistics.compare(*sides)


def _points(compared: Mapping) -> str:
    return f"{100 * compared['difference']:+.1f}"


def _shares(compared: Mapping) -> str:
    return f"{100 * compared['accuracy_b']:.1f} against {100 * compared['accuracy_a']:.1f} %"


def caption_means(
    cases: pd.DataFrame, students: Sequence[str], votes: int, published: pd.DataFrame
) -> Caption:
    """Of Fig. 1. `published` has the columns Size, CoT_Distill and Agent_Distill_ours.

    Where nothing was run with a vote (`votes` is 0), the student that acts is that without one.
    """
    acting, prefix = {}, {}
    last = ("agent_distill_ftp", votes) if votes else ("agent_distill", 1)
    for model in students:
        mine = select(cases, model=model)
        acting[size_label(model)] = _compare(mine, ("cot_distill", 1), last)
        prefix[size_label(model)] = _compare(mine, ("agent_distill", 1), ("agent_distill_ftp", 1))
    more, fewer, open_ = [], [], []
    for size, found in acting.items():
        if found:
            clear = found["p"] < 0.05
            place = (more if found["difference"] > 0 else fewer) if clear else open_
            place.append(f"{size} ({_shares(found)})")
    both = published.dropna(subset=["CoT_Distill", "Agent_Distill_ours"])
    better = both[both["Agent_Distill_ours"] > both["CoT_Distill"]]["Size"]
    paper = "at all" if len(better) == len(both) else f"at {len(better)} of"
    parts = [
        f"more questions right at {join_words(more)}" if more else "",
        f"fewer at {join_words(fewer)}" if fewer else "",
        f"no difference beyond chance at {join_words(open_)}" if open_ else "",
    ]
    said = "; ".join(part for part in parts if part)
    bar, theirs = ("last bar", "") if votes else ("without a vote", ", with a vote,")
    seen = (
        f"the student trained to act ({bar}) against the one trained on chains of thought: "
        f"{said}; in the paper{theirs} more right {paper} {len(both)} sizes"
        if said
        else f"the published bars; of ours, one of the two distillations was {NOT_RUN}"
    )
    changes = [f"{_points(found)} points at {size}" for size, found in prefix.items() if found]
    alone = f" ({join_words(changes)}, without a vote)" if changes else ""
    not_seen = (
        f"the effect of the first-thought prefix alone{alone}",
        "what a second training gives, since the whiskers are over questions only",
        "" if votes else f"what a vote (SAG) adds to ours, which was {NOT_RUN} with one",
    )
    return Caption(_sentence(seen), _sentence(*not_seen))


def caption_pair(cot: Mapping, agent: Mapping) -> Caption:
    """Of Fig. 2, from its two transcripts."""

    def verdict(transcript: Mapping) -> str:
        answer = transcript.get("answer")
        what = "gives no answer" if answer in (None, "") else f"answers {str(answer)[:40]}"
        return f"{what} ({'right' if transcript.get('correct') else 'wrong'})"

    steps = len(agent.get("steps") or ())
    seen = (
        f"the student that recites {verdict(cot)}",
        f"the one that acts takes {steps} step{'' if steps == 1 else 's'} and {verdict(agent)}",
    )
    return Caption(
        _sentence(*seen), "How often that happens: it is one question, chosen as an example."
    )


def caption_vote(
    example: Mapping,
    step: Mapping | None,
    votes: Sequence[int | None] = (),
    case: Mapping | None = None,
) -> Caption:
    """Of Fig. 3; `votes` are the groups of the step's candidates, None for one that has none;
    `case` is the run of the step, if it is known. Without a step, no vote was run."""
    right = "right" if example["trajectory"].get("correct") else "wrong"
    if step is None:
        seen = f"the teacher's run goes on from the prefix to a {right} answer"
        vote = f"a vote, which was {NOT_RUN}"
        return Caption(_sentence(seen), _sentence("whether the prefix helped", vote))
    agreed = votes.count(votes[step["chosen"]]) if votes[step["chosen"]] is not None else 0
    failed = sum(bool(candidate.get("failed")) for candidate in step["candidates"])
    vote = f"{agreed} of {len(votes)} candidates agree with the one kept, {failed} failed"
    seen = f"the teacher's run goes on from the prefix to a {right} answer"
    unseen = "whether the prefix helped, and how often the majority is right"
    if case:
        vote += f", and the run ends with a {'right' if case['correct'] else 'wrong'} answer"
    return Caption(
        _sentence(seen, vote),
        _sentence(unseen, "a vote drops code that fails, not a wrong thought"),
    )


def _total(points: Sequence[Estimate | None]) -> tuple[int, int]:
    """How many questions behind these accuracies were answered right, and how many there are."""
    asked = [point for point in points if point is not None and point.n]
    return round(sum(p.value * p.n / 100 for p in asked)), sum(p.n for p in asked)


def caption_breakdown(
    size: str, name: str, panels: Sequence[Drawn], published: Mapping[str, float], their_size: str
) -> Caption:
    """Of Fig. 4. `panels` are ours, `published` the share (%) of all questions by method label."""
    totals = {label: _total(points) for label, _, points in panels[0]}
    ours = [f"{label} {right} of {n}" for label, (right, n) in totals.items() if n]
    theirs = [f"{published[label]:.0f}" for label, (_, n) in totals.items() if n]
    if not ours:
        return Caption(
            f"The published bars only: ours was {NOT_RUN}.", "How ours does by subject or by level."
        )
    gaps = [label for label, (_, n) in totals.items() if not n]
    seen = (
        f"right on {name} at {size}: {join_words(ours)}",
        f"ours was {NOT_RUN}: {join_words(gaps)}" if gaps else "",
        f"in the paper, on MATH500 at {their_size}: {join_words(theirs)} %",
    )
    pairs = [
        a.high < b.low or b.high < a.low
        for ours in panels
        for *_, points in ours
        for a, b in itertools.combinations([p for p in points if p is not None and p.n], 2)
    ]
    n = format_range(p.n for ours in panels for *_, points in ours for p in points if p.n)
    bars = f"a bar is {n} question{'' if n == '1' else 's'}"
    apart = f"the whiskers of one colour are apart in {sum(pairs)} of {len(pairs)} pairs"
    return Caption(
        _sentence(*seen), _sentence(f"which subjects or levels are harder: {bars}, and {apart}")
    )


def caption_samples(
    size: str,
    cases: Mapping[str, pd.DataFrame],
    rows: Mapping[str, str],
    counts: Sequence[int],
    left: Mapping[str, Sequence[str]],
    reach: float,
) -> Caption:
    """Of Fig. 5. `cases` by panel, `rows` method to label, `left` the panels left
    out, by the reason, `reach` (points) of the longest whisker."""
    said, clear, most = [], 0, max(counts)
    for method, label in rows.items():
        found = {
            name: compared
            for name, chosen in cases.items()
            if most > 1 and (compared := _compare(chosen, (method, 1), (method, most)))
        }
        clear += sum(compared["p"] < 0.05 for compared in found.values())
        if found:
            changes = {name: _points(compared) for name, compared in found.items()}
            words = join_words([f"{points} on {name}" for name, points in changes.items()])
            if len(changes) > 1 and len(set(changes.values())) == 1:
                words = f"{changes.popitem()[1]} on each"
            said.append(f"{label}: {words}")
    seen = (
        f"points gained at {size} from 1 to {most} samples, {'; '.join(said)}; "
        f"{clear or 'none'} of these beyond chance"
        if said
        else f"the published lines; ours was {NOT_RUN} with more than one sample"
    )
    gaps = "; ".join(
        f"{join_words(panels)}, left out: {why}" for why, panels in left.items() if panels
    )
    more = f"what more samples would give ours, which was {NOT_RUN} with them" if reach else ""
    unseen = f"gains smaller than the whiskers, of up to {reach:.0f} points" if said else more
    return Caption(_sentence(seen), _sentence(unseen, gaps or ("" if unseen else "our own lines")))


def caption_tokens(
    size: str, tokens: Mapping[str, Sequence[pd.Series]], published: Mapping[str, tuple[float, ...]]
) -> Caption:
    """Of Fig. 6. `tokens` maps panels to the counts of CoT and of the agent, `published` to both
    means."""
    ran = {name: both for name, both in tokens.items() if all(map(len, both))}
    means = {name: [float(counts.mean()) for counts in both] for name, both in ran.items()}

    def sides(of: Mapping[str, Sequence[float]]) -> str:
        more = [name for name, (cot, agent) in of.items() if agent > cot]
        fewer = [name for name in of if name not in more]
        named = (("more", more), ("fewer", fewer))
        return join_words([f"{word} on {join_words(names)}" for word, names in named if names])

    seen = (
        f"tokens that the agent writes at {size}, against CoT: {sides(means)}; "
        f"in the paper {sides(published)}"
        if means
        else f"the published means; one of ours was {NOT_RUN}"
    )
    left = [name for name, both in tokens.items() if not any(map(len, both))]
    unseen = "the tokens that are read (prompts, search results) and what a vote multiplies"
    return Caption(
        _sentence(seen), _sentence(unseen, _left_out(left) if len(left) < len(tokens) else "")
    )


def caption_errors(
    ours: Mapping[str, Sequence[tuple[Estimate, Estimate]]],
    published: Sequence[tuple[Estimate, Estimate]],
    sizes: Sequence[str],
    left: Sequence[str],
) -> Caption:
    """Of Fig. 7. `ours` maps panels to pairs of shares without and with SAG, one pair a size."""

    def fewer(pairs: Sequence[tuple[Estimate, Estimate]]) -> str:
        return f"{sum(b.value < a.value for a, b in pairs)} of {len(pairs)}"

    ran = [
        (size, a, b)
        for pairs in ours.values()
        for size, (a, b) in zip(sizes, pairs, strict=True)
        if not math.isnan(a.value + b.value)
    ]
    means = [
        f"{np.mean([a.value for at, a, _ in ran if at == size]):.1f} to "
        f"{np.mean([b.value for at, _, b in ran if at == size]):.1f} % at {size}"
        for size in dict.fromkeys(size for size, *_ in ran)
    ]
    greedy = {
        size: [pairs[k][0].value for pairs in ours.values() if pairs[k][0].n]
        for k, size in enumerate(sizes)
    }
    alone = [
        f"{np.mean(found):.1f} % of the questions at {size}"
        for size, found in greedy.items()
        if found
    ]
    unseen = "whether the answers get better, which Figure 1 and the claims show"
    if ran:
        seen = (
            f"with SAG fewer questions have broken code in {fewer([pair for _, *pair in ran])} "
            f"pairs of bars, {join_words(means)} on average; in the paper in {fewer(published)}"
        )
    elif alone:
        seen = (
            f"without SAG {join_words(alone)} have broken code, on average; ours was {NOT_RUN} "
            f"with it; in the paper fewer with it in {fewer(published)} pairs of bars"
        )
        unseen = "what SAG changes in ours"
    else:
        seen = f"the published bars; ours was {NOT_RUN} both with and without SAG"
    return Caption(_sentence(seen), _sentence(unseen, _left_out(left)))


def count_change(a: pd.DataFrame, b: pd.DataFrame, column: str) -> Estimate:
    """How much the mean count per question differs, b - a, paired by question.

    The interval is Student's t of the questions' differences; no value where no question is shared.
    """
    sides = [
        side.dropna(subset=[column]).groupby(["benchmark", "id"])[column].mean().astype(float)
        for side in (a, b)
    ]
    change = (sides[1] - sides[0]).dropna()
    if change.empty:
        return Estimate()
    mean, n = float(change.mean()), len(change)
    if n == 1 or change.nunique() == 1:
        return Estimate(mean, n=n)
    half = float(stats.t.ppf(0.975, n - 1) * change.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def caption_searches(
    cases: pd.DataFrame, students: Sequence[str], published: pd.DataFrame, left: Sequence[str]
) -> Caption:
    """Of Fig. 8: whether the prefix changes our searches the way it changes the published ones.

    `cases` are greedy agents' on the panels' benchmarks; `published` has the columns Model,
    Without_FTP and With_FTP. A change of ours is one if its interval excludes 0.
    """
    theirs = published.groupby("Model")[["Without_FTP", "With_FTP"]].mean()
    falls = theirs["With_FTP"] < theirs["Without_FTP"]
    sign = -1 if 2 * falls.sum() >= len(falls) else 1
    count = int(falls.sum() if sign < 0 else (~falls).sum())
    other, same, open_ = [], [], []
    for model in students:
        sides = [
            select(cases, model=model, method=method)
            for method in ("agent_distill", "agent_distill_ftp")
        ]
        change = count_change(*sides, "tool_calls")
        if math.isnan(change.value):
            continue
        clear = change.low > 0 or change.high < 0
        panels = [
            count_change(*(select(side, benchmark=name) for side in sides), "tool_calls").value
            for name in sides[0]["benchmark"].unique()
        ]
        up = sum(value > 0 for value in panels)
        counted = f"up in {up} of {len(panels)} panels"
        words = f"{size_label(model)} ({change.value:+.1f} per question, {counted})"
        place = (same if sign * change.value > 0 else other) if clear else open_
        place.append(words)
    verb = "fall" if sign < 0 else "rise"
    parts = [
        f"ours goes the other way at {join_words(other)}" if other else "",
        f"ours goes the same way at {join_words(same)}" if same else "",
        f"ours does not change measurably at {join_words(open_)}" if open_ else "",
    ]
    if not any(parts):
        parts = [f"ours was {NOT_RUN} both with and without it"]
    seen = f"with the prefix, the paper's searches {verb} at {count} of {len(falls)} sizes"
    unseen = "whether more searches find more: these are counts, not right answers"
    return Caption(_sentence(seen, *parts), _sentence(unseen, _left_out(left)))


def caption_claims(found: pd.DataFrame) -> Caption:
    """Of the chart of claims; `found` as of `claims.check_claims`."""
    drawn = found.dropna(subset=["difference"])
    names = {verdict: list(rows.index) for verdict, rows in drawn.groupby("holds")}
    parts = [f"{len(names.get('yes', ()))} of {len(drawn)} claims hold"]
    for verdict, words in (("no", "not true here"), (UNSETTLED, UNSETTLED)):
        if verdict in names:
            parts.append(f"{words}: {join_words(names[verdict])}")
    missing = len(found) - len(drawn)
    gap = f"{missing} claim{'' if missing == 1 else 's'} with a side that was {NOT_RUN}"
    unseen = "another training, or questions of another kind: the intervals are over ours"
    return Caption(_sentence(*parts), _sentence(gap if missing else "", unseen))


def caption_efficiency(points: Mapping[int, Estimate], ends: Mapping) -> Caption:
    """Of the chart of trajectories: accuracy by their number, and the first against the last."""
    counts = sorted(points)
    first, last = (points[count].value for count in (counts[0], counts[-1]))
    clear = "more than chance" if ends["p"] < 0.05 else "no more than chance explains"
    rises = all(points[a].value < points[b].value for a, b in itertools.pairwise(counts))
    seen = (
        f"from {counts[0]} to {counts[-1]} trajectories the share of right answers goes from "
        f"{first:.1f} to {last:.1f} %{', up at each step' if rises else ''}: {clear}"
    )
    unseen = (
        f"whether more than {counts[-1]} would help further, and what another training would give: "
        "a point is one training"
    )
    return Caption(_sentence(seen), _sentence(unseen))


def caption_bars(series: Drawn) -> Caption:
    """Of a chart of accuracies by method and benchmark."""
    totals = {label: _total(points) for label, _, points in series}
    ran = {label: total for label, total in totals.items() if total[1]}
    if not ran:
        return Caption(f"Nothing: no method was run ({NOT_RUN}).", "Any accuracy.")
    order = sorted(ran, key=lambda label: ran[label][0] / ran[label][1])
    ends = [f"{label} ({ran[label][0]} of {ran[label][1]})" for label in (order[-1], order[0])]
    fewest = f", fewest: {ends[1]}" if len(order) > 1 else ""
    seen = f"most right, over all benchmarks: {ends[0]}{fewest}"
    if len(order) > 1 and len({right / n for right, n in ran.values()}) == 1:
        right, n = ran[order[0]]
        seen = f"every method has as many right, over all benchmarks: {right} of {n}"
    n = format_range(p.n for *_, points in series for p in points if p is not None and p.n)
    unseen = f"differences within the whiskers: a bar is {n} question{'' if n == '1' else 's'}"
    return Caption(_sentence(seen), _sentence(unseen))


def caption_losses(ends: Mapping[str, tuple[float, float]]) -> Caption:
    """Of loss curves: the first and the last loss (nats per token) by label."""
    falls = [f"from {first:.2f} to {last:.2f} for {label}" for label, (first, last) in ends.items()]
    seen = f"the loss goes {join_words(falls)}"
    return Caption(
        _sentence(seen), "Whether the student answers better: the loss is on its training text."
    )
