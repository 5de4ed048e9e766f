"""What can go wrong in a way that a user can mend.

FinePruneError
├── ConfigError        a parameter is unknown, missing, mistyped or out of range
├── MissingInputError  a path that a stage should read is not there
├── DataError          a dataset, or a file that should become one, is not usable
├── ModelError         a model file is not usable, or does not fit what is asked of it
├── AttackError        an attack cannot be carried out as configured
├── DefenseError       a defence cannot be carried out as configured
├── StorageError       an object store or a data repository does not deliver
├── TrackingError      the tracking server or the registry does not answer
└── MissingExtraError  a library of an extra, such as fineprune[report], is not installed

Every message is one line: the thing, what was expected, what was found. The command line prints
it to stderr and exits with code 2.
"""

import errno
import os
import re
import reprlib


class FinePruneError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(FinePruneError):
    """A parameter is unknown, missing, mistyped or out of range."""


class MissingInputError(FinePruneError):
    """A path that a stage should read is not there."""


class DataError(FinePruneError):
    """A dataset, or a file that should become one, is not usable."""


class ModelError(FinePruneError):
    """A model file is not usable, or does not fit what is asked of it."""


class AttackError(FinePruneError):
    """An attack cannot be carried out as configured."""


class DefenseError(FinePruneError):
    """A defence cannot be carried out as configured."""


class StorageError(FinePruneError):
    """An object store or a data repository does not deliver."""


class TrackingError(FinePruneError):
    """The tracking server or the registry does not answer."""


class MissingExtraError(FinePruneError):
    """A library of an extra, such as ``fineprune[report]``, is not installed."""


_SHORT = reprlib.Repr()  # repr would take hours for what a line of YAML with aliases can stand for
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 30, 30, 30
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 200


def excerpt(value: object) -> str:
    """A value as a message shows it: its repr, at most 60 characters."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes out no number of more than 4,300 digits
        text = "a number of more than 4,300 digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def shortened(text: str, length: int) -> str:
    """The text, or its beginning and ``…`` where it has more than ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def one_line(error: BaseException) -> str:
    """What an error says, in one line and without credentials; its kind where it says nothing."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        # A copy names two files; the full disk is that of the second, which is written to.
        name = error.filename2 if error.errno == errno.ENOSPC and error.filename2 else error.filename
        place = f"{name}: " if isinstance(name, (str, os.PathLike)) else ""
        text = f"{place}{error.strerror}"
    return printable(without_credentials(" ".join(text.split()))) or type(error).__name__


def printable(text: str) -> str:
    """The text with what would steer a terminal, or turn its line round, as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def root_cause(error: BaseException) -> str:
    """What started it, in one line: "Connection refused" says more than a library's account of its tries."""
    reason = getattr(error, "reason", None)  # where urllib3 keeps it
    below = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
    return root_cause(below) if below else one_line(error)


def missing_extra(what: str, library: str, extra: str) -> MissingExtraError:
    """The error to raise where an extra's library cannot be imported: ``figures need matplotlib: pip …``."""
    return MissingExtraError(f"{what} {library}: pip install 'fineprune[{extra}]'")


_HIDDEN = "password|passwd|pwd|secret|token|key|sig"  # in the name of a query value


def without_credentials(text: str) -> str:
    """The text without ``user:password@`` and secret query values in any URI, nor a header that was refused:
    fit for a message.
    """
    text = re.sub(r"(?s)(Invalid header value ).*", r"\1…", text)  # http.client's, of a token
    text = re.sub(r"(?<=://)[^/\s]*@", "", text)
    # A password may hold slashes; what is a port and a path is none.
    text = re.sub(r"(?<=://)[^/\s:@]*:(?!\d+/)[^\s@]*@", "", text)
    return re.sub(rf"(?i)([?&][^=&\s]*(?:{_HIDDEN})[^=&\s]*=)[^&\s]*", r"\1…", text)
