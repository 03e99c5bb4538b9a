"""Reads the text of TTIR.

libtriton's own bindings give neither constants nor enumerations, so the text is what there is. It is read as
MLIR prints it: an operation a line, in its own form or the generic one, with locations where there are any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from heitu.kernels.triton.ir import (
    Attribute,
    Block,
    Function,
    Location,
    Module,
    Operation,
    Region,
    Type,
    Value,
)

TOKEN = re.compile(
    r"""(?P<space>[ \t]+|//[^\n]*)
      | (?P<newline>\n)
      | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<value>%[\w$.-]+(?:\#\d+)?)
      | (?P<label>\^[\w$.-]+)
      | (?P<symbol>@(?:[\w$.-]+|"(?:[^"\\]|\\.)*"))
      | (?P<alias>\#[\w$.-]+|![\w$.]+)
      | (?P<arrow>->)
      | (?P<shape>(?:\d+x)+(?=[a-z!]))
      | (?P<number>-?(?:0x[0-9A-Fa-f]+|\d+\.\d*(?:[eE][-+]?\d+)?|\d+))
      | (?P<word>[A-Za-z_][\w$.]*)
      | (?P<mark>[-()\[\]{}<>=,:*|+?;])""",
    re.VERBOSE,
)
OPENING, CLOSING = "([{", ")]}"


class ReadError(ValueError):
    """The text is not TTIR, or TTIR of a form that is not known.

    Args:
        line: of the text, from 1.
        column: from 1.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        self.line = text.count("\n", 0, position) + 1
        start = text.rfind("\n", 0, position) + 1
        self.column = position - start + 1
        end = text.find("\n", position)
        shown = text[start : len(text) if end < 0 else end].strip()
        super().__init__(f"TTIR, line {self.line}, column {self.column}: {message}: {shown}")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    position: int


def read(text: str) -> Module:
    """The module that `text` is. Raises ReadError with the exact place."""
    return _Reader(text).module()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.locations: dict[str, Location | None] = {}
        self.defined = dict(re.findall(r"^(#loc\d*) = loc\((.*)\)$", text, re.MULTILINE))
        self.tokens = self._tokens()
        self.at = 0
        self.scopes: list[dict[str, list[Value]]] = [{}]

    # Tokens

    def _tokens(self) -> list[Token]:
        tokens: list[Token] = []
        position = 0
        while position < len(self.text):
            found = TOKEN.match(self.text, position)
            if found is None:
                raise ReadError(f"unknown character {self.text[position]!r}", self.text, position)
            kind = str(found.lastgroup)
            if kind != "space":
                tokens.append(Token(kind, found.group(), position))
            position = found.end()
        return [*tokens, Token("end", "", len(self.text))]

    @property
    def token(self) -> Token:
        return self.tokens[min(self.at, len(self.tokens) - 1)]  # behind the end is the end

    @property
    def next(self) -> Token:
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)]

    def error(self, message: str, token: Token | None = None) -> ReadError:
        return ReadError(message, self.text, (token or self.token).position)

    def advance(self) -> Token:
        token = self.token
        self.at += 1
        return token

    def sees(self, text: str) -> bool:
        return self.token.text == text

    def accept(self, text: str) -> bool:
        if self.sees(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        if not self.sees(text):
            raise self.error(f"expected {text!r}, found {self.token.text!r}")
        return self.advance()

    def kind(self, kind: str) -> Token:
        if self.token.kind != kind:
            raise self.error(f"expected a {kind}, found {self.token.text!r}")
        return self.advance()

    def skip_lines(self) -> None:
        while self.token.kind == "newline":
            self.at += 1

    # Values

    def define(self, name: str, values: list[Value]) -> None:
        self.scopes[-1][name] = values

    def use(self, token: Token) -> Value:
        name, _, index = token.text[1:].partition("#")
        for scope in reversed(self.scopes):
            if name in scope:
                values = scope[name]
                if int(index or 0) < len(values):
                    return values[int(index or 0)]
        raise self.error(f"{token.text} is not defined", token)

    # Types

    def type(self) -> Type:
        token = self.advance()
        if token.text == "tensor":
            self.expect("<")
            shape = tuple(int(extent) for extent in self.kind("shape").text.rstrip("x").split("x"))
            if 0 in shape:
                raise self.error("a tensor without elements")
            element = self.type()
            if self.accept(","):  # an encoding
                while not self.sees(">") and self.token.kind not in ("newline", "end"):
                    self.advance()
            self.expect(">")
            return element.of_shape(shape)
        if token.text == "!tt.ptr":
            self.expect("<")
            pointee = self.type()
            if self.accept(","):  # an address space
                self.advance()
            self.expect(">")
            return Type("ptr", (), pointee)
        if token.kind == "word":
            return Type(token.text)
        raise self.error(f"{token.text!r} is not a type that is known", token)

    def types(self, end: str) -> list[Type]:
        found: list[Type] = []
        while not self.accept(end):
            if found:
                self.expect(",")
            found.append(self.type())
            self.optional_location()
        return found

    def result_types(self) -> list[Type]:
        return self.types(")") if self.accept("(") else [self.type()]

    # Attributes

    def attribute(self) -> Attribute:
        token = self.advance()
        if token.kind == "text":
            return _unescape(token.text)
        if token.text in ("true", "false"):
            return token.text == "true"
        if token.text == "dense":
            self.expect("<")
            value = self.attribute()
            self.expect(">")
            return value
        if token.text == "array":  # array<i32: 1, 0>
            self.expect("<")
            self.type()
            self.accept(":")
            return self._list(">")
        if token.text == "[":
            return self._list("]")
        if token.text == "{":
            self.at -= 1
            return dict(self.attributes())
        if token.kind == "number":
            return self._number(token)
        if token.kind in ("word", "symbol", "alias"):
            if self.accept("<"):  # #tt.something<word>
                while not self.accept(">"):
                    token = self.advance()
            return token.text
        raise self.error(f"{token.text!r} is not an attribute that is known", token)

    def _number(self, token: Token) -> Attribute:
        if token.text.lower().startswith(("0x", "-0x")):
            return token.text  # the bits of a float
        value: int | float = float(token.text) if re.search("[.eE]", token.text) else int(token.text)
        return value

    def _list(self, end: str) -> list[Attribute]:
        values: list[Attribute] = []
        while not self.accept(end):
            if values:
                self.expect(",")
            values.append(self.attribute())
            if self.accept(":"):
                self.type()
        return values

    def attributes(self) -> dict[str, Attribute]:
        """`{name = value : type, flag}`."""
        found: dict[str, Attribute] = {}
        self.expect("{")
        while not self.accept("}"):
            if found:
                self.expect(",")
            name = self.advance()
            key = _unescape(name.text) if name.kind == "text" else name.text
            found[key] = True
            if self.accept("="):
                found[key] = self.attribute()
                if self.accept(":"):
                    self.type()
        return found

    # Locations

    def optional_location(self) -> str | None:
        """`loc(#loc3)`: the name of what is looked up at the end."""
        if not (self.sees("loc") and self.next.text == "("):
            return None
        self.at += 1
        start = self.at + 1
        self._balanced()
        return self.text[self.tokens[start].position : self.tokens[self.at - 1].position]

    def _balanced(self) -> None:
        depth = 0
        while True:
            token = self.advance()
            depth += (token.text in OPENING and token.kind == "mark") - (
                token.text in CLOSING and token.kind == "mark"
            )
            if token.kind == "end":
                raise self.error("a bracket is not closed")
            if depth == 0:
                return

    def location(self, text: str | None) -> Location | None:
        """The place in a file that a location leads to: of a call, the place that is called."""
        if text is None:
            return None
        if text not in self.locations:
            self.locations[text] = None  # for one that leads to itself
            found = re.search(r'"((?:[^"\\]|\\.)*)":(\d+):(\d+)', text)
            if found:
                self.locations[text] = Location(found[1], int(found[2]), int(found[3]))
            else:
                for name in re.findall(r"#loc\d*", text):
                    if name in self.defined:
                        self.locations[text] = self.location(self.defined[name])
                        break
        return self.locations[text]

    # Structure

    def module(self) -> Module:
        functions: dict[str, Function] = {}
        while self.token.kind != "end":
            if self.token.text == "tt.func":
                function = self.function()
                functions[function.name] = function
            elif self.token.text in ("module", "attributes"):
                self.advance()
                if self.sees("{") and self.next.kind != "newline":
                    self.attributes()
            elif self.token.kind == "alias":  # a definition of a location
                while self.token.kind not in ("newline", "end"):
                    self.advance()
            elif self.token.text in ("{", "}") or self.token.kind == "newline":
                self.advance()
            elif self.optional_location() is None:
                raise self.error("expected a function")
        if not any(function.public for function in functions.values()):
            raise self.error("there is no kernel")
        return Module(functions)

    def function(self) -> Function:
        self.expect("tt.func")
        public = self.accept("public") or not self.accept("private")
        name = self.kind("symbol").text[1:].strip('"')
        self.scopes.append({})
        self.expect("(")
        arguments: list[Value] = []
        while not self.accept(")"):
            if arguments:
                self.expect(",")
            arguments.append(self.argument())
            if self.sees("{"):
                self.attributes()
            self.optional_location()
        results = self.result_types() if self.accept("->") else []
        if self.accept("attributes"):
            self.attributes()
        body = self.region()
        body.block.arguments = [*arguments, *body.block.arguments]
        place = self.location(self.optional_location())
        self.scopes.pop()
        return Function(name, arguments, results, body, public, place)

    def argument(self) -> Value:
        """`%name: type`."""
        name = self.kind("value").text[1:]
        self.expect(":")
        value = Value(name, self.type())
        self.define(name, [value])
        return value

    def region(self, scope: dict[str, list[Value]] | None = None) -> Region:
        """`{ operations }`, in blocks."""
        self.expect("{")
        self.scopes.append(scope or {})
        region = Region([Block("^bb0")])
        self.skip_lines()
        if self.token.kind == "label":
            region.blocks.pop()
        while not self.accept("}"):
            if self.token.kind == "label":
                region.blocks.append(self.block())
            elif self.token.kind == "end":
                raise self.error("a region is not closed")
            else:
                block = region.blocks[-1]
                operation = self.operation()
                operation.block = block
                block.operations.append(operation)
            self.skip_lines()
        self.scopes.pop()
        return region

    def block(self) -> Block:
        block = Block(self.advance().text)
        if self.accept("("):
            while not self.accept(")"):
                if block.arguments:
                    self.expect(",")
                block.arguments.append(self.argument())
                self.optional_location()
        self.expect(":")
        return block

    def operation(self) -> Operation:
        from heitu.kernels.triton.forms import read_form

        names: list[tuple[str, int]] = []
        if self.token.kind == "value":
            while True:
                name = self.advance().text[1:]
                names.append((name, int(self.kind("number").text) if self.accept(":") else 1))
                if not self.accept(","):
                    break
            self.expect("=")
        token = self.advance()
        if token.kind not in ("word", "text"):
            raise self.error("expected an operation", token)
        generic = token.kind == "text"
        operation = Operation(_unescape(token.text) if generic else token.text)
        try:
            types = read_form(self, operation, generic)
        except ReadError:
            raise
        except (AssertionError, IndexError, KeyError, ValueError):
            raise self.error(f"{operation.name} has a form that is not known") from None
        operation.location = self.location(self.optional_location())
        if self.token.kind not in ("newline", "end") and not self.sees("}"):
            raise self.error(f"{operation.name} has a form that is not known")
        if sum(count for _, count in names) != len(types) and names:
            raise self.error(f"{operation.name} has {len(types)} results", token)
        for kind in types:
            operation.results.append(Value("", kind, operation))
        rest = list(operation.results)
        for name, count in names:
            own, rest = rest[:count], rest[count:]
            for index, value in enumerate(own):
                value.name = name if count == 1 else f"{name}#{index}"
            self.define(name, own)
        for value in {*operation.operands, *(v for _, given in operation.successors for v in given)}:
            value.users.append(operation)
        return operation


def _unescape(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code, 16)) if len(code) == 2 else {"n": "\n", "t": "\t"}.get(code, code)

    return re.sub(r"\\([0-9A-Fa-f]{2}|.)", character, text[1:-1])
