"""The templates of pages: what they escape, refuse and contain, and that all of them are installed."""

import fnmatch
import tomllib
from pathlib import Path

import jinja2
import pytest

from saat_tf.pages import page_templates, stylesheet

ROOT = Path(__file__).parents[3]
TEMPLATES = sorted(
    file.relative_to(ROOT)
    for package in ("saat_tf", "trainers", "export")
    for file in (ROOT / package).rglob("*")
    if file.suffix in (".j2", ".css")
)


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("<p>{{ x }}</p>", "<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ('<img alt="{{ x }}">', '" onerror="alert(1)', '<img alt="&#34; onerror=&#34;alert(1)">'),
        ("<p title='{{ x }}'>", "' onclick='", "<p title='&#39; onclick=&#39;'>"),
        ("{{ '<b>%s</b>'|format(x) }}", "<i>", "&lt;b&gt;&lt;i&gt;&lt;/b&gt;"),
        ("{{ 'a' ~ x }}", "&<", "a&amp;&lt;"),
        ("{{ x }}", "{{ 7 * 7 }}", "{{ 7 * 7 }}"),
    ],
)
def test_values_are_escaped_and_never_read_as_templates(template, value, expected):
    assert page_templates("saat_tf.pages").from_string(template).render(x=value) == expected


def test_a_name_that_a_template_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'absent' is undefined"):
        page_templates("saat_tf.pages").from_string("<p>{{ absent }}</p>").render()


def test_the_layout_forbids_scripts_and_requests_and_contains_the_stylesheet():
    template = '{% extends "page.html.j2" %}{% block title %}t{% endblock %}{% block content %}c{% endblock %}'
    page = page_templates("export.demo").from_string(template).render()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.index("Content-Security-Policy") < page.index("<style>") and stylesheet() in page
    assert "url(" not in stylesheet() and "@import" not in stylesheet() and "</" not in stylesheet()


def test_all_templates_are_installed_with_the_packages():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert len(TEMPLATES) >= 6
    for file in TEMPLATES:
        assert any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)
        assert (ROOT / file.parent / "__init__.py").is_file(), f"{file.parent} is no package that is installed"


@pytest.mark.parametrize("file", [file for file in TEMPLATES if file.suffix == ".j2"], ids=str)
def test_no_template_turns_escaping_off(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "|safe" not in text.replace(" ", "") and "autoescape" not in text and "<script" not in text
