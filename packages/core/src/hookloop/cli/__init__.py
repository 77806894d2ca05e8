"""The command `hookloop`: `main` takes it apart, and each command is a file of its own."""

# Where Lightning's users look for what builds a command line of a script's own.
_OF_LIGHTNING = ("LightningArgumentParser", "LightningCLI", "SaveConfigCallback")


def __getattr__(name: str) -> object:
    if name in _OF_LIGHTNING:
        raise ImportError(
            f"hookloop.cli: {name} is not there: hookloop.cli is the command `hookloop`, and does not build command "
            "lines for scripts. Read the arguments with argparse, and pass them to the module and to Trainer(...).",
            name=__name__,
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
