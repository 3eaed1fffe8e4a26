"""Draw which module imports which, for docs/architecture.md.

    python docs/draw_imports.py            # write the pictures
    python docs/draw_imports.py --check    # exit 1 if they are out of date

Two pictures from one graph (grimp's, the same that import-linter judges): the floors as a Mermaid diagram between two
marks in architecture.md, and every module with its imports of lower floors as docs/images/imports.svg. The floors and
their order are read from import-linter's contract in pyproject.toml: the picture cannot show others than those held.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "images" / "imports.svg"
BEGIN, END = "<!-- imports: begin (docs/draw_imports.py) -->", "<!-- imports: end -->"

WIDTH, MARGIN, ROW, COLUMN, TITLE = 1400, 12, 15, 150, 22
GAP_BETWEEN_BANDS = 56
COLOURS = ("#2563eb", "#9333ea", "#0f766e", "#b45309", "#be123c", "#4d7c0f", "#475569", "#0369a1")


@dataclass(frozen=True)
class Imports:
    """The package's modules by floor, and who imports whom across floors."""

    bands: tuple[tuple[str, ...], ...]
    """Floors from top to bottom; those that stand side by side share a band."""
    modules: dict[str, tuple[str, ...]]
    """Floor → its modules, without the package's and the floor's own name."""
    across: tuple[tuple[str, str, str, str], ...]
    """(floor, module, imported floor, imported module), sorted."""


def read_imports(root: Path = ROOT) -> Imports:
    """Read the floors from pyproject.toml, and the imports from the code."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    package = settings["root_package"]
    layers = next(contract for contract in settings["contracts"] if contract["type"] == "layers")["layers"]
    bands = tuple(tuple(floor.strip() for floor in layer.split("|")) for layer in layers)

    # Without its cache, which takes a file for unchanged by its time: a checkout may set that back.
    graph = grimp.build_graph(package, cache_dir=None)
    place: dict[str, tuple[str, str]] = {}
    for name in graph.modules:
        parts = name.split(".")[1:]
        if parts and any(parts[0] in band for band in bands):
            place[name] = (parts[0], ".".join(parts[1:]))
    across = sorted(
        (*place[importer], *place[imported])
        for importer in place
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported in place and place[imported][0] != place[importer][0]
    )
    modules = {
        floor: tuple(sorted(module for where, module in place.values() if where == floor and module))
        for band in bands
        for floor in band
    }
    return Imports(bands, modules, tuple(across))


def mermaid(imports: Imports) -> str:
    """The floors, and an arrow from each to the floors that it imports."""
    lines = ["```mermaid", "flowchart TD"]
    for band in imports.bands:
        lines += [f"    {floor}" for floor in band]
    arrows = sorted({(importer, imported) for importer, _, imported, _ in imports.across})
    lines += [f"    {importer} --> {imported}" for importer, imported in arrows]
    return "\n".join([*lines, "```"])


def svg(imports: Imports) -> str:
    """Every module in its floor, and a line for every import of another floor. Every line falls."""
    boxes: list[str] = []
    spots: dict[tuple[str, str], tuple[float, float]] = {}
    order = [floor for band in imports.bands for floor in band]
    colours = {floor: COLOURS[number % len(COLOURS)] for number, floor in enumerate(order)}
    y = float(MARGIN)
    for band in imports.bands:
        weights = [max(1, -(-len(imports.modules[floor]) // 4)) for floor in band]
        usable = WIDTH - MARGIN * (len(band) + 1)
        widths = [max(1.2 * COLUMN, usable * weight / sum(weights)) for weight in weights]
        widths = [width * usable / sum(widths) for width in widths]
        columns = [max(1, int(width // COLUMN)) for width in widths]
        rows = max(
            -(-len(imports.modules[floor]) // count) for floor, count in zip(band, columns, strict=True)
        )
        height = TITLE + max(1, rows) * ROW + 8
        x = float(MARGIN)
        for floor, width, count in zip(band, widths, columns, strict=True):
            colour = colours[floor]
            boxes.append(
                f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height}" rx="4" fill="#f8fafc"'
                f' stroke="{colour}"/>'
                f'<text x="{x + 8:.0f}" y="{y + 15:.0f}" font-weight="600" fill="{colour}">{escape(floor)}</text>'
            )
            spots[(floor, "")] = (x + 30, y + 11)
            for index, module in enumerate(imports.modules[floor]):
                at = (x + 8 + (index % count) * (width - 8) / count, y + TITLE + (index // count) * ROW + 10)
                spots[(floor, module)] = (at[0] + 3 * min(len(module), 22), at[1] - 3)
                label = module if len(module) <= 26 else "…" + module[-25:]
                boxes.append(f'<text x="{at[0]:.0f}" y="{at[1]:.0f}" font-size="9.5">{escape(label)}</text>')
            x += width + MARGIN
        y += height + GAP_BETWEEN_BANDS
    lines = []
    for importer, module, imported, target in imports.across:
        (x1, y1), (x2, y2) = spots[(importer, module)], spots[(imported, target)]
        colour = colours[importer]
        middle = (y1 + y2) / 2
        lines.append(
            f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"'
            f' stroke="{colour}"/>'
        )
    total = y - GAP_BETWEEN_BANDS + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:.0f}" font-family="sans-serif"'
            ' font-size="12" fill="#0f172a">',
            f"<title>Imports across the floors: {', '.join(order)}</title>",
            f'<rect width="{WIDTH}" height="{total:.0f}" fill="#ffffff"/>',
            '<g fill="none" stroke-width="0.7" stroke-opacity="0.28">',
            *lines,
            "</g>",
            *boxes,
            "</svg>",
            "",
        ]
    )


def page_with(imports: Imports, page: str) -> str:
    """`page` with the diagram between its marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{mermaid(imports)}\n\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw which module imports which, for docs/architecture.md.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a picture is out of date"
    )
    check = parser.parse_args().check
    imports = read_imports()
    page = PAGE.read_text(encoding="utf-8")
    wanted = {PAGE: page_with(imports, page), PICTURE: svg(imports)}
    stale = [
        path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if check:
            print(
                f"{path.relative_to(ROOT)} is out of date: run python docs/draw_imports.py", file=sys.stderr
            )
        else:
            path.write_text(wanted[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
