"""The page: its controls and their callbacks."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import numpy as np

from export.demo.guard import refuse_urls
from export.demo.parts import PARTS, hits, label_names, pixels_of, results
from export.demo.searches import Attacked, Engine, Search, Subject, read_upload, target_of
from saat_tf.data import RetrievalData

# Those that need no network of their own trained first, the paper's first.
ATTACK_CHOICES = {
    "Mainstay: the paper's attack": "mainstay",
    "Auto: mainstay, adapting steps": "auto",
    "Center: CgAT's attack": "center",
    "PTA: on the result list": "pta",
    "SDHA: off the relevant codes": "sdha",
    "HAG: needs no labels": "hag",
    "Square: without gradients": "square",
    "Mainstay, towards other labels": "mainstay-targeted",
    "DHTA, towards other labels": "dhta",
}
THEME = gr.themes.Default(
    primary_hue="blue",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
QUERIES_A_PAGE = 12
KEPT_SECONDS = 3600
PROGRESS = gr.Progress()


def build_app(engines: Sequence[Engine], resize_size: int, *, apply_orientation: bool = True) -> gr.Blocks:
    """Build the page.

    Args:
        engines: the encoders to compare, on one data set.
        resize_size: shorter side of an upload before the center crop, as in training.
        apply_orientation: turn an upload as its EXIF data say, as in training.
    """
    data, side = engines[0].data, engines[0].model.image_size
    pages = [range(i, min(i + QUERIES_A_PAGE, len(data.test))) for i in range(0, len(data.test), QUERIES_A_PAGE)]

    def thumbnails(page: int) -> list[tuple[np.ndarray, str]]:
        return [(pixels_of(data.test.load(i).numpy()), f"query {i}") for i in pages[page]]

    def show(subject: Subject) -> str:
        if subject.labels is None:
            told = f"{subject.title}: it has no labels, so no result is called right or wrong."
        else:
            told = f"{subject.title} shows: {label_names(subject.labels, data)}."
        sides = [(engine.title, engine.search(subject.image, subject.labels), None) for engine in engines]
        return results(told, sides, data)

    def choose(page: int, event: gr.SelectData) -> tuple[Subject, str, dict]:
        subject = query(data, pages[page][event.index])
        return subject, show(subject), gr.update(visible=False, value=[])

    def turn(page: int) -> tuple[int, dict]:
        page = (page + 1) % len(pages)
        return page, gr.update(value=thumbnails(page), selected_index=None)

    def upload(contents: bytes) -> tuple[Subject, str, dict]:
        image = _said(read_upload, contents, side, resize_size, apply_orientation)
        subject = Subject(image, None, "Your picture")
        return subject, show(subject), gr.update(visible=True, value=[])

    def label(subject: Subject, names: list[str]) -> tuple[Subject, str]:
        chosen = np.array([name in names for name in data.class_names], np.float32)
        subject = Subject(subject.image, chosen if names else None, subject.title)
        return subject, show(subject)

    def attack(
        subject: Subject, name: str, epsilon_255: float, num_steps: int, progress: gr.Progress = PROGRESS
    ) -> str:
        how = Attacked(name, epsilon_255, int(num_steps))
        target = _said(target_of, subject, how, data)
        sides = []
        for i, engine in enumerate(engines):
            progress(i / len(engines), desc=f"Attacking the {engine.title} encoder")
            before = engine.search(subject.image, subject.labels)
            adversarial_image = _said(engine.attack, subject, how, target)
            sides.append((engine.title, before, engine.search(adversarial_image, subject.labels, target)))
        return results(verdict(subject, how, target, sides, data), sides, data, epsilon_255)

    first = query(data, 0)
    with gr.Blocks(
        title=f"{data.name}: attack a search", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as app:
        subject, page = gr.State(first, time_to_live=KEPT_SECONDS), gr.State(0)
        gr.HTML(PARTS.intro(data, engines[0].model.code_length))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                gr.HTML(PARTS.heading("1. Choose a picture"))
                queries = gr.Gallery(
                    thumbnails(0), label="Queries of the run", show_label=False, columns=4, height="auto",
                    allow_preview=False, interactive=False, buttons=[], object_fit="cover", selected_index=0,
                    elem_id="queries",
                )  # fmt: skip
                with gr.Row():
                    more = gr.Button("Other queries", size="sm", min_width=120, visible=len(pages) > 1)
                    own = gr.UploadButton(
                        "Your own picture", type="binary", file_types=["image"], size="sm", min_width=120
                    )
                refuse_urls(own)
                labels = gr.Dropdown(
                    list(data.class_names), multiselect=True, label="What does it show?", visible=False,
                    info="Decides which results are right, and is what attacks aim at.", value=[],
                )  # fmt: skip
                gr.HTML(PARTS.heading("2. Attack it"))
                name = gr.Dropdown(list(ATTACK_CHOICES.items()), value="mainstay", label="Attack", filterable=False)
                epsilon = gr.Slider(
                    0, 32, value=8, step=1, label="Strength: levels of 255 that a pixel may change by (eps)", buttons=[]
                )
                steps = gr.Slider(5, 100, value=20, step=5, label="Steps; the paper takes 100", buttons=[])
                button = gr.Button("Attack", variant="primary", elem_id="attack")
            with gr.Column(scale=5, min_width=300):
                shown = gr.HTML(show(first), elem_id="results", padding=False)
        # Left out of the description of the interface, and refused by Gradio's clients: the page is for people. Whoever
        # speaks the page's own protocol can call them all the same, so each checks what it is given.
        page_only = {"api_visibility": "private"}
        queries.select(choose, page, [subject, shown, labels], **page_only)
        more.click(turn, page, [page, queries], **page_only)
        own.upload(upload, own, [subject, shown, labels], **page_only)
        labels.input(label, [subject, labels], [subject, shown], **page_only)
        button.click(attack, [subject, name, epsilon, steps], shown, **page_only)
    return app.queue(max_size=32, default_concurrency_limit=1)


def query(data: RetrievalData, i: int) -> Subject:
    """Return query `i` of the run."""
    return Subject(data.test.load(i).numpy(), data.test.labels[i], f"Query {i}")


def verdict(
    subject: Subject,
    how: Attacked,
    target: np.ndarray | None,
    sides: Sequence[tuple[str, Search, Search]],
    data: RetrievalData,
) -> str:
    """Say in one sentence what the attack has done under each encoder."""
    shown = "" if subject.labels is None else f" ({label_names(subject.labels, data)})"
    said = f"{subject.title}{shown} under {how.attack} of {how.epsilon_255:g}/255, {how.num_steps} steps"
    if target is not None:
        said += f", towards {label_names(target, data)}"
    if subject.labels is None:
        changes = [f"the {title} code has {(x.bits != y.bits).sum()} bits flipped" for title, x, y in sides]
    else:
        changes = [f"{hits(x)} → {hits(y)} right for the {title} encoder" for title, x, y in sides]
    return f"{said}: {', '.join(changes)}."


def _said(function: Callable, *values: Any) -> Any:
    """Call `function`, and show its ValueError to the user."""
    try:
        return function(*values)
    except ValueError as error:
        raise gr.Error(str(error), title="This does not work", print_exception=False) from error
