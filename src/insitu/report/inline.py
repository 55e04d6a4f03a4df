"""Figures inside a page: Matplotlib's pictures in the page's fonts and colours, without what a page does not need."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from insitu.report.markup import Html

__all__ = ["compressed", "inline_picture"]

WHITE = "#ffffff"
# A tenth of a point is less than a fifth of a pixel.
DECIMALS = 1
NUMBER = re.compile(r"-?\d+\.\d+")
GEOMETRY = frozenset({"d", "x", "y", "width", "height", "transform"})
LEFT_OUT = frozenset({"metadata", "style", "clipPath"})
PICTURE = re.compile(
    r'<svg viewBox="(?P<box>[^"]*)" role="img" aria-label="(?P<label>[^"]*)"><g id="(?P<id>[^"]*)">.*?</g></svg>',
    re.DOTALL,
)
STYLE = re.compile(r' style="([^"]*)"')


def inline_picture(svg: bytes, label: str, colours: Mapping[str, str]) -> Html:
    """A drawing for the inside of a page.

    Args:
        svg: The drawing as Matplotlib saves it. Nothing in it may reach beyond its axes: clipping is left out, since
            browsers lose it where a picture is used a second time.
        label: The alternative text.
        colours: The name of the style sheet's variable for each colour.
    """
    drawn = ElementTree.fromstring(svg)
    name = "p" + hashlib.sha256(svg).hexdigest()[:10]
    names = identifiers(svg.decode(), name)
    group = ElementTree.Element("g", {"id": name})
    group.extend(part for child in drawn for part in reduced(child, names, colours))
    root = ElementTree.Element("svg", {"viewBox": drawn.attrib["viewBox"], "role": "img", "aria-label": label})
    root.append(group)
    return Html(ElementTree.tostring(root, encoding="unicode"))


def identifiers(svg: str, prefix: str) -> dict[str, str]:
    """Short identifiers for those that something refers to, apart from those of other pictures on a page."""
    used = dict.fromkeys(re.findall(r'href="#([^"]+)', svg))
    return {old: f"{prefix}-{i}" for i, old in enumerate(used)}


def reduced(
    node: ElementTree.Element, names: Mapping[str, str], colours: Mapping[str, str]
) -> Iterator[ElementTree.Element]:
    """What a page needs of a node: nothing of one that shows nothing, its children of one that only groups them."""
    tag = local(node.tag)
    if tag in LEFT_OUT:
        return
    fields = {local(k): v for k, v in node.attrib.items()}
    kept = {k: new for k, v in fields.items() if (new := inside_page(k, v, names, colours))}
    children = [part for child in node for part in reduced(child, names, colours)]
    if tag in ("g", "defs") and not kept:
        yield from children if tag == "g" else wrapped(tag, children)
    elif tag != "path" or "id" in kept or visible(kept.get("style", "")):
        own = ElementTree.Element(tag, kept)
        own.text = node.text if tag in ("text", "tspan") else None
        own.extend(children)
        yield own


def wrapped(tag: str, children: list[ElementTree.Element]) -> Iterator[ElementTree.Element]:
    if children:
        node = ElementTree.Element(tag)
        node.extend(children)
        yield node


def visible(style: str) -> bool:
    return "stroke:" in style or "fill: none" not in style


def local(name: str) -> str:
    """A name without its namespace, as HTML writes it."""
    return name.rpartition("}")[2]


def inside_page(name: str, value: str, names: Mapping[str, str], colours: Mapping[str, str]) -> str:
    """The value of an attribute on the page; empty where the page does without the attribute."""
    if name == "id":
        return names.get(value, "")
    if name == "href" and value.startswith("#"):
        return f"#{names[value[1:]]}"
    if name in GEOMETRY:
        return "" if value.startswith("rotate(-0") else rounded(value)
    return page_style(value, colours) if name == "style" else "" if name == "clip-path" else value


def rounded(value: str) -> str:
    """Coordinates with few decimals, and no point of a path twice in a row.

    Example:
        >>> rounded("M 1.23456 2.0  L 1.2401 1.9999  L 3.06 4.449  ")
        'M1.2 2L3.1 4.4'
    """
    value = NUMBER.sub(lambda match: f"{float(match[0]):.{DECIMALS}f}".removesuffix(".0"), value)
    value = re.sub(r"\s*([MLCQZz])\s*", r"\1", value).strip()
    parts = re.findall(r"[MLCQZz][^MLCQZz]*", value)
    if "".join(parts) != value:
        return value
    return parts[0] + "".join(b for a, b in itertools.pairwise(parts) if not (b[0] == "L" and b[1:] == a[1:]))


def page_style(value: str, colours: Mapping[str, str]) -> str:
    """A style with its colours and fonts made those of the page."""
    for colour, variable in colours.items():
        value = value.replace(colour, f"var(--{variable})")
    # Versions of matplotlib write a font in one property or in several.
    return re.sub(r"(font-family: |font: [^;']*px )[^;]*", r"\1var(--sans)", value.replace(WHITE, "none"))


def compressed(page: str) -> tuple[Html, str]:
    """A page whose pictures stand in it once, and share their styles; and those styles.

    A picture that comes again is a reference to the first.
    """
    seen: set[str] = set()
    once = PICTURE.sub(lambda match: repeated(match, seen), page)
    classes: dict[str, str] = {}
    short = STYLE.sub(lambda match: f' class="{classes.setdefault(match[1], f"s{len(classes)}")}"', once)
    return Html(short), "".join(f".{name}{{{style}}}\n" for style, name in classes.items())


def repeated(match: re.Match[str], seen: set[str]) -> str:
    """A picture as it is, or the reference to it where it was seen before."""
    if match["id"] not in seen:
        seen.add(match["id"])
        return match[0]
    use = f'<use href="#{match["id"]}" />'
    return f'<svg viewBox="{match["box"]}" role="img" aria-label="{match["label"]}">{use}</svg>'
