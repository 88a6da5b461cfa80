"""`instseg models`."""

from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal

if TYPE_CHECKING:
    from instseg.models.builtin import ModelCard
    from instseg.settings import ModelSettings

_TRUST = "A model directory is code as far as TensorFlow is concerned: open only those that you trust."


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show all of this one.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models in the package: a name is accepted wherever a command takes a MODEL."""
    from instseg.models.builtin import BUNDLED_DIR, bundled_models, read_card
    from instseg.models.config import read_training

    names = bundled_models() if name is None else [name]
    cards = {each: read_card(each) for each in names}
    settings = {each: read_training(BUNDLED_DIR / each).config.model for each in names}
    if as_json:
        rows = [
            {"name": each, "path": str(BUNDLED_DIR / each), **cards[each].to_dict(), "model": settings[each].to_dict()}
            for each in names
        ]
        terminal.print_json(rows)
    elif not names:
        terminal.print_result("This installation has no models; train one with: instseg train MODEL --data DIR")
    elif name is None:
        _print_table(cards, settings)
    else:
        _print_card(name, cards[name], settings[name])


def _print_table(cards: "dict[str, ModelCard]", settings: "dict[str, ModelSettings]") -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1))
    for heading in ("name", "segments", "channels", "diameter", "mean AP"):
        table.add_column(heading, overflow="fold")
    for name, card in cards.items():
        model = settings[name]
        table.add_row(name, card.title, str(model.channels), _diameter(model), f"{card.mean_ap:.3f}")
    console = terminal.console(highlight=False, markup=False)
    console.print(table)
    console.print(f"instseg models NAME shows a model's card. {_TRUST}", soft_wrap=True)


def _print_card(name: str, card: "ModelCard", model: "ModelSettings") -> None:
    lines = {
        "name": [name],
        "segments": [card.title],
        "channels": [str(model.channels)],
        "diameter": [_diameter(model)],
        "trained on": [card.data],
        "licence": [card.licence],
        **({"sources": card.sources} if card.sources else {}),
        "training": [card.command],
        "figures": card.figures,
        "limits": card.limits,
    }
    width = max(len(key) for key in lines)
    for key, texts in lines.items():
        for number, text in enumerate(texts):
            terminal.print_result(f"{key if number == 0 else '':<{width}}  {text}")
    terminal.print_result(_TRUST)


def _diameter(model: "ModelSettings") -> str:
    if model.diameter_p5 is None or model.diameter_p95 is None:
        return f"{model.diameter:.0f} px"
    return f"{model.diameter:.0f} px ({model.diameter_p5:.0f} to {model.diameter_p95:.0f})"
