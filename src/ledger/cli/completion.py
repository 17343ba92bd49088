"""`completion`: let the shell complete commands and options."""

from typing import Annotated, Literal

from cyclopts import Parameter

from ledger.cli import exits, shown


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")], /
) -> int:
    """Print what the shell must read to complete commands and options.

    source <(jobledger completion bash)
    """
    from ledger.cli.app import build

    shown.data(build().generate_completion(shell=shell))
    return exits.OK
