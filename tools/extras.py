"""What a tool needs beside the run-time dependencies: an extra of pyproject.toml."""

from importlib import import_module


def require(extra: str, *packages: str) -> None:
    """Raises ValueError where one of the `packages` of `extra` is not installed."""
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise ValueError(
                f"this needs {package}; install it with: pip install -e '.[{extra}]'"
            ) from error
