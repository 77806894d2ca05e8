"""Reads the part of YAML in which settings are written, so that the core depends on no YAML library.

Mappings and lists, as blocks and in brackets; plain text, text in quotes, over several lines too; comments; numbers,
truth values and nulls as YAML 1.2 has them (`1e-3` is a number, `yes` is text); the tag `!!python/tuple`, which PyYAML
writes. Anchors, other tags, block text (`|` and `>`) and several documents are errors with the number of their line.
"""

import re
from dataclasses import dataclass
from typing import Any

_INT = re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_ESCAPES = dict(zip('0abtnvfre "/\\N_LP', '\0\a\b\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029', strict=True))
_HEX = {"x": 2, "u": 4, "U": 8}
_SPACE = " \t"
_TUPLE = "!!python/tuple"


class YamlError(ValueError):
    """Something that is no YAML, or none that this reader knows; the message begins with the line."""


def read_yaml(text: str) -> Any:
    """The value in a document: dicts, lists, tuples and scalars; None if it is empty.

    Raises:
        ValueError: a YamlError; it cannot be read.
    """
    lines: list[_Line] = []
    quote, blank = "", 0
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = raw if quote else _without_comment(raw)
        content = line.strip(_SPACE)
        if not content:
            blank += not raw.strip(_SPACE)
            continue
        if content == "---" and not lines:
            continue
        if not quote and "\t" in line[: len(line) - len(line.lstrip(_SPACE))]:
            raise YamlError(f"line {number}: it is indented by a tab, and YAML wants spaces")
        quote = _open_quote(content, quote)
        lines.append(_Line(number, len(line) - len(line.lstrip(_SPACE)), content, blank))
        blank = 0
    if not lines:
        return None
    reader = _Reader(lines)
    value = reader.block(lines[0].indent)
    if reader.left:
        raise YamlError(f"line {reader.line.number}: {reader.line.text!r} is indented unlike what is above")
    return value


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    text: str
    blank: int = 0
    """Empty lines above: in a text over several lines, they are where its lines end."""


class _Reader:
    """Goes through the lines; each method takes the lines that it reads."""

    def __init__(self, lines: list[_Line]) -> None:
        self._lines = lines
        self._next = 0

    @property
    def left(self) -> bool:
        return self._next < len(self._lines)

    @property
    def line(self) -> _Line:
        return self._lines[self._next]

    def block(self, indent: int) -> Any:
        """The mapping, list or scalar whose lines begin at this column."""
        if _is_item(self.line.text):
            return self._list(indent)
        if _key_and_rest(self.line.text) is not None:
            return self._mapping(indent)
        line = self.line
        self._next += 1
        return self._scalar(line, line.text, indent - 1)

    def _list(self, indent: int) -> list[Any]:
        items = []
        while self.left and self.line.indent == indent and _is_item(self.line.text):
            line = self.line
            rest = line.text[1:].lstrip(_SPACE)
            column = indent + len(line.text) - len(rest)
            if rest and (_is_item(rest) or _key_and_rest(rest) is not None):
                # A list or a mapping that begins behind the dash: as if the dash were a space.
                self._lines[self._next] = _Line(line.number, column, rest)
                items.append(self.block(column))
            else:
                self._next += 1
                items.append(self._value(line, rest, indent, indent + 1))
        return items

    def _mapping(self, indent: int) -> dict[Any, Any]:
        items: dict[Any, Any] = {}
        while self.left and self.line.indent == indent:
            line = self.line
            pair = _key_and_rest(line.text)
            if pair is None or _is_item(line.text):
                break
            self._next += 1
            key = _hashable(line, _Inline(line, pair[0]).whole())
            if key in items:
                raise YamlError(f"line {line.number}: {key!r} is there twice")
            # PyYAML writes the dashes of a list below the key, and not indented.
            dashes = self.left and self.line.indent == indent and _is_item(self.line.text)
            items[key] = self._value(line, pair[1], indent, indent if dashes else indent + 1)
        return items

    def _value(self, line: _Line, rest: str, indent: int, below: int) -> Any:
        """What stands behind a key or a dash, or in the lines below that begin at column `below` or later."""
        is_tuple = rest.startswith(_TUPLE)
        if is_tuple:
            rest = rest.removeprefix(_TUPLE).strip(_SPACE)
        if rest:
            value = self._scalar(line, rest, indent)
        elif self.left and self.line.indent >= below:
            value = self.block(self.line.indent)
        else:
            value = None
        if is_tuple and not isinstance(value, list):
            raise YamlError(f"line {line.number}: {_TUPLE} stands before a list")
        return tuple(value) if is_tuple else value

    def _scalar(self, line: _Line, text: str, indent: int) -> Any:
        """What is written in this line, and in those below that are indented more."""
        while self.left and self.line.indent > indent:
            if text[0] not in "'\"[{" and _key_and_rest(self.line.text) is not None:
                raise YamlError(f"line {self.line.number}: {self.line.text!r} is indented unlike what is above")
            if _ends_escaped(text):
                text = text[:-1] + self.line.text
            else:
                text += ("\n" * self.line.blank or " ") + self.line.text
            self._next += 1
        return _Inline(line, text).whole()


class _Inline:
    """Reads a value that stands in one piece of text: a scalar, or brackets."""

    def __init__(self, line: _Line, text: str) -> None:
        self._line = line
        self._text = text
        self._at = 0

    def whole(self) -> Any:
        value = self._value(stops="")
        self._skip()
        if self._at < len(self._text):
            raise self._error(f"{self._text[self._at :]!r} is left over")
        return value

    def _error(self, what: str) -> YamlError:
        return YamlError(f"line {self._line.number}: {what}")

    def _skip(self) -> None:
        while self._peek() == " ":
            self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _value(self, stops: str) -> Any:
        self._skip()
        first = self._peek()
        if first == "[":
            return self._items("]", lambda: self._value(",]"))
        if first == "{":
            return dict(self._items("}", self._pair))
        if first == "'":
            return self._single()
        if first == '"':
            return self._double()
        if self._text.startswith(_TUPLE, self._at):
            self._at += len(_TUPLE)
            value = self._value(stops)
            if not isinstance(value, list):
                raise self._error(f"{_TUPLE} stands before a list")
            return tuple(value)
        if first and first in "&*!|>%@`":
            raise self._error(f"{self._text[self._at :]!r} begins with {first!r}: an anchor, a tag or block text")
        return self._plain(stops)

    def _items(self, end: str, item: Any) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        while True:
            self._skip()
            if self._peek() == end:
                self._at += 1
                return items
            if not self._peek():
                raise self._error(f"a {end!r} is missing")
            items.append(item())
            self._skip()
            if self._peek() == ",":
                self._at += 1
            elif self._peek() != end:
                raise self._error(f"a ',' or a {end!r} is missing")

    def _pair(self) -> tuple[Any, Any]:
        key = _hashable(self._line, self._value(":,}"))
        self._skip()
        if self._peek() != ":":
            return key, None
        self._at += 1
        return key, self._value(",}")

    def _plain(self, stops: str) -> Any:
        start = self._at
        while self._peek():
            if self._peek() in stops and (self._peek() != ":" or self._text[self._at + 1 : self._at + 2] in ("", " ")):
                break
            self._at += 1
        return _plain(self._text[start : self._at].strip(_SPACE))

    def _single(self) -> str:
        found = re.compile(r"'((?:[^']|'')*)'").match(self._text, self._at)
        if found is None:
            raise self._error("a ' is missing")
        self._at = found.end()
        return found[1].replace("''", "'")

    def _double(self) -> str:
        self._at += 1
        read = []
        while (character := self._peek()) != '"':
            self._at += 1
            if not character:
                raise self._error('a " is missing')
            read.append(self._escape() if character == "\\" else character)
        self._at += 1
        return "".join(read)

    def _escape(self) -> str:
        letter = self._peek()
        self._at += 1
        if letter in _HEX:
            digits = self._text[self._at : self._at + _HEX[letter]]
            self._at += _HEX[letter]
            try:
                return chr(int(digits, 16))
            except (ValueError, OverflowError) as error:
                raise self._error(f"\\{letter}{digits} is no character") from error
        if letter not in _ESCAPES:
            raise self._error(f"\\{letter} is no escape")
        return _ESCAPES[letter]


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        number = text.replace("_", "")
        return int(number, 0) if number[:2] in ("0x", "0o") else int(number)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if special := _SPECIAL.fullmatch(text):
        return float(f"{special[1]}inf") if special[2] else float("nan")
    return text


def _hashable(line: _Line, key: Any) -> Any:
    try:
        hash(key)
    except TypeError as error:
        raise YamlError(f"line {line.number}: a {type(key).__name__} is no key") from error
    return key


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _key_and_rest(text: str) -> tuple[str, str] | None:
    """The key of a line of a mapping, and what stands behind it; None if it is no such line."""
    if text[0] in "'\"":
        closing = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"").match(text)
        if closing is None or not re.match(r"[ \t]*:([ \t]|$)", text[closing.end() :]):
            return None
        at = text.index(":", closing.end())
    else:
        if text[0] in "[{!&*|>%@`":
            return None
        found = re.search(r":([ \t]|$)", text)
        if found is None:
            return None
        at = found.start()
    return text[:at].rstrip(_SPACE), text[at + 1 :].strip(_SPACE)


def _open_quote(text: str, quote: str) -> str:
    """The quote that is open at the end of a line, if the value in it, or the one that goes on, stands in quotes."""
    if not quote:
        while text:
            pair = _key_and_rest(text)
            if _is_item(text):
                text = text[1:].lstrip(_SPACE)
            elif pair is not None:
                text = pair[1]
            else:
                break
        text = text.removeprefix(_TUPLE).lstrip(_SPACE)
        if text[:1] not in ("'", '"'):
            return ""
        quote, text = text[0], text[1:]
    inside = r"(?:[^']|'')*" if quote == "'" else r'(?:[^"\\]|\\.)*\\?'
    return quote if re.fullmatch(inside, text) else ""


def _ends_escaped(text: str) -> bool:
    return text.startswith('"') and (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _without_comment(line: str) -> str:
    quote = ""
    for at, character in enumerate(line):
        before = line[at - 1] if at else " "
        if quote:
            if character == quote and not (quote == '"' and before == "\\" and line[at - 2 : at] != "\\\\"):
                quote = ""
        elif character in "'\"" and before in " [{,(":
            quote = character
        elif character == "#" and before in " \t":
            return line[:at]
    return line
