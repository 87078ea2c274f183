"""What `sparring data` does: datasets listed, verified and fetched. As in `cli`, one function is called and printed."""

from typing import Annotated

import typer

from sparring.console import out, print_entries, print_files

data_app = typer.Typer(no_args_is_help=True, help="Show, download and verify the datasets.")


@data_app.command("list")
def data_list() -> None:
    """Show every dataset: its splits and where its files are looked for."""
    from sparring.data.download import data_folders
    from sparring.listing import rows_of

    print_entries(rows_of("datasets")[1])
    out.print(f"looked up in: {', '.join(map(str, data_folders()))}", soft_wrap=True)


@data_app.command("verify")
def data_verify(names: Annotated[list[str] | None, typer.Argument(help="Datasets; default: all.")] = None) -> None:
    """Check the contents of the datasets at hand against their published checksums.

    sparring data verify mnist
    """
    if print_files(names):
        raise typer.Exit(2)


@data_app.command("fetch")
def data_fetch(names: Annotated[list[str], typer.Argument(help="Datasets, such as mnist cifar10.")]) -> None:
    """Download datasets into the cache folder, if they are not at hand.

    sparring data fetch mnist fashion_mnist
    """
    from sparring.data import SOURCES
    from sparring.data.download import fetch

    for source in map(SOURCES.parse, names):
        files = fetch(source)
        if not files:
            out.print(f"{source.name}: nothing to fetch, {' '.join(source.whereabouts()).strip()}", soft_wrap=True)
        for file in files:
            out.print(f"{source.name}: {file.file} {file.state} ({file.place})", soft_wrap=True)
