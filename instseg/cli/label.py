"""`instseg label`."""

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instseg.cli import terminal
from instseg.cli.model import Diameter, ModelChannels, check_channels, find_model, parse_diameter
from instseg.optional import require_extra

if TYPE_CHECKING:
    from instseg.labelling.folder import LabelFolder
    from instseg.labelling.server.sitting import Sitting

_LOCAL = "127.0.0.1"


def label(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder of images, or one with images/ in it.", show_default=False),
    ],
    model: Annotated[
        Path, typer.Option(metavar="MODEL", help="Begin with this model: a directory, or a name that models lists.")
    ] = Path("general"),
    port: Annotated[
        int | None,
        typer.Option(metavar="N", help="Port; if it is in use, the next that is free.", show_default="8765"),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at; any other lets other machines in.")
    ] = _LOCAL,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address only.")] = False,
    diameter: Diameter = None,
    channels: ModelChannels = None,
) -> None:
    """Label images in the browser, with the embeddings of a model helping, and train on them.

    Labels go to FOLDER/labels as soon as something is done; Ctrl-C ends.
    """
    require_extra("label")
    from instseg.inference.options import PredictOptions
    from instseg.labelling.server.running import address_of, listen
    from instseg.labelling.server.security import new_token
    from instseg.labelling.server.sitting import Sitting

    size = parse_diameter(diameter)
    check_channels(channels)
    find_model(model)
    listening = listen(host, port)
    try:
        sitting = Sitting(folder, model, PredictOptions(diameter=size, channels=channels))
    except BaseException:
        listening.close()
        raise
    _print_folder(sitting.folder)
    number, token = listening.getsockname()[1], new_token()
    if port not in (None, 0, number):
        terminal.print_note(f"Port {port} is in use; this is port {number}")
    address = address_of(_shown_host(host), number, token)
    try:
        _serve(sitting, listening, token, host, address, not no_browser)
    finally:
        with terminal.spinner("Saving"):
            sitting.close()
        _print_end(sitting)


def _serve(
    sitting: "Sitting", listening: socket.socket, token: str, host: str, address: str, wants_browser: bool
) -> None:
    from instseg.labelling.server.app import make_app
    from instseg.labelling.server.running import Server
    from instseg.labelling.server.security import LOOPBACK, is_loopback

    hosts = set(LOOPBACK)
    if not is_loopback(host):
        hosts |= {_shown_host(host), host}
        if _is_any(host):
            hosts |= _names()
        terminal.print_note(
            "Warning: other machines can reach this server, and what they send and get is not encrypted: who reads the "
            "address on its way can change the labels; ssh -L is safer"
        )

    def started() -> None:
        terminal.print_result(f"Label at {address}")
        terminal.print_note("Ctrl-C ends; labels are saved as you go")
        # Not before: what is printed while TensorFlow is loading is taken for its own.
        sitting.start()
        if wants_browser and _has_display():
            _open_browser(address)

    server = Server(make_app(sitting, token, hosts, any_address=_is_any(host)), listening, started)
    try:
        server.run()
    except KeyboardInterrupt:
        # The usual end.
        return


def _print_folder(folder: "LabelFolder") -> None:
    for note in folder.notes:
        terminal.print_note(f"Note: {note}")
    failed = [image for image in folder.images if image.error is not None]
    for image in failed[:3]:
        terminal.print_note(f"Note: {image.error}")
    if len(failed) > 3:
        terminal.print_note(f"Note: {len(failed)} images cannot be read; the page lists them")


def _print_end(sitting: "Sitting") -> None:
    """Print in a line what is labelled now."""
    folder = sitting.folder
    states = [folder.state(index) for index in range(len(folder.images))]
    accepted, partly = states.count("accepted"), states.count("partly")
    instances = sum(folder.counts(index)[1] or 0 for index, state in enumerate(states) if state != "new")
    images = terminal.count_text(len(states), "image")
    text = f"{accepted} of {images} labelled, {partly} in part, {terminal.count_text(instances, 'instance')}"
    terminal.print_result(f"{folder.path}: {text}")
    if (error := folder.error) is not None:
        terminal.print_error(error)
        raise typer.Exit(1)


def _shown_host(host: str) -> str:
    """Return a name by which a browser reaches a server that listens at an address."""
    return socket.gethostname() if _is_any(host) else host


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::", "")


def _names() -> set[str]:
    """Return the names of this machine that it knows of."""
    names = {socket.gethostname(), socket.getfqdn()}
    try:
        _, aliases, _ = socket.gethostbyname_ex(socket.gethostname())
    except OSError:
        return names
    return {*names, *aliases}


def _has_display() -> bool:
    """Return whether a browser that opens a window has somewhere to do so."""
    if sys.platform == "darwin":
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _open_browser(address: str) -> None:
    import threading
    import webbrowser

    # A browser in the terminal, or one that starts slowly, would hold the server up.
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
