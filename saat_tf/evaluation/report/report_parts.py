"""The parts of a report that are words and numbers: tiles, tables, findings, configuration."""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.report.page import element, table
from saat_tf.evaluation.report.report_input import DefenseResult, ReportInput
from saat_tf.evaluation.sanity_checks.checks import Finding
from saat_tf.evaluation.scores import DefenseScores, Score
from saat_tf.metrics import TIE_RULE

SETTING = ("epsilon", "steps", "restarts")


def tiles(report: ReportInput, scores: Mapping[str, DefenseScores], chance: float, metric: str) -> Iterator[Element]:
    """Give the few numbers that a reader takes away."""
    for title, x in scores.items():
        if x.attacks:
            yield _tile(title, f"{x.clean.map:.2f} \u2192 {x.worst.map:.2f}", f"{metric} before and under attack")
        else:
            yield _tile(title, f"{x.clean.map:.2f}", f"{metric}, not attacked")
    yield _tile("guessing", f"{chance:.2f}", f"{metric} without any knowledge")
    findings = [finding for d in report.defenses for finding in d.findings]
    if findings:
        raised = sum(finding.raised for finding in findings)
        yield _tile("checks that warn", f"{raised} of {len(findings)}", "see below", warns=raised > 0)


def _tile(title: str, value: str, words: str, *, warns: bool = False) -> Element:
    return element(
        "div", title, element("strong", value), element("span", words, class_="soft"),
        class_="tile warns" if warns else "tile",
    )  # fmt: skip


def map_table(scores: Mapping[str, DefenseScores], chance: float, metric: str) -> Element:
    """Tell every MAP with its interval, and chance."""

    def row(title: str, attack: str, setting: tuple[str, str, str], score: Score) -> list:
        low, high = score.interval
        return [title, attack, score.map, f"{low:.3f} to {high:.3f}", *setting]

    none = ("", "", "")
    rows = [["guessing", "none", chance, "", *none]]
    for title, x in scores.items():
        rows.append(row(title, "no attack", none, x.clean))
        for attack in x.non_targeted:
            rows.append(row(title, attack.attacked.attack, _setting(attack.attacked), attack.score))
        if x.non_targeted:
            rows.append(row(title, "worst of all", (f"{x.epsilon_255:g}/255", "", ""), x.worst))
        rows.append(row(title, "ideal attack (a bound)", none, x.ideal))
    columns = ["model", "attack", metric, "95% interval", *SETTING]
    return table(
        f"{metric} and bootstrap intervals over queries. Equal distances keep the order of the database ({TIE_RULE}); "
        "of several restarts the worst for each query counts.",
        columns,
        rows,
    )


def target_table(scores: Mapping[str, DefenseScores]) -> Element:
    """Tell every t-MAP, before and under attack."""
    rows = []
    for title, defense in scores.items():
        for x in defense.targeted:
            low, high = x.score.interval
            row = [title, x.attacked.attack, x.score.map, f"{low:.3f} to {high:.3f}", x.before.map]
            rows.append([*row, *_setting(x.attacked)])
    columns = ["model", "attack", "t-MAP under attack", "95% interval", "t-MAP before", *SETTING]
    return table(
        "t-MAP counts an image as right when it shares a label with the target: higher is worse.", columns, rows
    )


def visibility_table(defenses: Sequence[DefenseResult]) -> Element:
    """Tell how far adversarial images are from their images."""
    rows = []
    for defense in defenses:
        for x in defense.attacked:
            linf, l2, mse, ssim = x.perceptibility.mean(axis=(1, 2))
            rows.append(
                [defense.title, x.attack, *_setting(x), f"{linf * 255:.2f}/255", *map(float, (l2, mse * 1e4, ssim))]
            )
    columns = ["model", "attack", *SETTING, "L-inf", "L2", "MSE x 10^4", "SSIM"]
    return table(
        "How visible the changes are, mean over images: largest change of a pixel, length of the change, its mean "
        "square, and structural similarity (1 is equal).",
        columns,
        rows,
    )


def _setting(attacked: AttackedQueries) -> tuple[str, str, str]:
    steps = str(attacked.num_steps)
    if attacked.mean_steps is not None:
        steps = f"at most {steps}, mean {attacked.mean_steps:.0f}: stopped early"
    return f"{attacked.epsilon_255:g}/255", steps, str(len(attacked.codes))


def findings(defense: DefenseResult) -> Iterator[Element]:
    """Tell what the checks of one model said, warnings first."""

    def shown(finding: Finding) -> Element:
        mark = "\u26a0 warns" if finding.raised else "\u2713 passed"
        lines = [element("p", element("strong", f"{mark}: {finding.check}"), f" \u2014 {finding.message}")]
        if finding.raised:
            lines.append(element("p", f"What to do: {finding.remedy}"))
        return element("div", *lines, class_="finding warns" if finding.raised else "finding")

    raised = [x for x in defense.findings if x.raised]
    passed = [x for x in defense.findings if not x.raised]
    yield element("h3", defense.title)
    yield from map(shown, raised)
    if passed:
        yield element("details", element("summary", f"Passed checks: {len(passed)}"), *map(shown, passed))


def configuration(report: ReportInput) -> Iterator[Element]:
    """Tell the facts of the card and the configuration."""
    facts = {name: value for name, value in report.card.items() if name not in ("results", "config")}
    for title, content in (("Facts of the run", facts), ("Configuration", report.config)):
        rows = [[name, str(value)] for name, value in _flat(content)]
        if rows:
            yield element("details", element("summary", title), table(title, ["name", "value"], rows))


def _flat(content: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value
