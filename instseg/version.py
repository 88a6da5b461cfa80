"""Which version of a package is installed: the one place that knows."""

from importlib.metadata import PackageNotFoundError, version

from instseg.errors import InstsegError


def installed_version(package: str = "instseg") -> str:
    """Return the version of an installed package, such as '0.2.0'.

    Raises
    ------
    InstsegError
        If the package is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise InstsegError(f"the package {package} is not installed; install it with: pip install {package}") from error
