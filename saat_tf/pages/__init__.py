"""HTML from templates that escape what they show, with one layout and one stylesheet."""

import base64

import jinja2

PACKAGE = "saat_tf.pages"


def page_templates(package: str) -> jinja2.Environment:
    """Return the templates beside a package's code, and those of this package: page.html.j2, parts.html.j2, style.css.

    Every value is escaped where it is shown, and a name that the template is not given is an error.

    Args:
        package: name of the package, such as "export.demo".

    Example:
        >>> page_templates("saat_tf.pages").from_string("<p>{{ name }}</p>").render(name="<script>")
        '<p>&lt;script&gt;</p>'
    """
    loaders = [jinja2.PackageLoader(name, "") for name in dict.fromkeys((package, PACKAGE))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = data_uri
    return environment


def data_uri(image: bytes, kind: str = "png") -> str:
    """Return an address that contains the image itself.

    Example:
        >>> data_uri(b"abc")
        'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def stylesheet() -> str:
    """Return the style of all pages, for a page that has a layout of its own."""
    return page_templates(PACKAGE).get_template("style.css").render()
