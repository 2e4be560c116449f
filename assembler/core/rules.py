"""An archive's own rules: what it asks of an L0's name, HDUs and keywords, and which of them an L0 breaks.

Each rule has a name that is told when it is broken: its kind and what it is about, ``width OBJECT``. A keyword of an extension is
told with it, ``type GREEN_AMP1.GAIN02``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assembler.core.cards import Value
from assembler.core.exposure import Hdu
from assembler.core.lines import as_line
from assembler.core.rule_names import NameRules, name_faults
from assembler.core.rule_values import KIND_NAMES, ValueKind, any_of, is_of_kind, is_same, is_undefined, value_told, width_of
from assembler.core.text_patterns import fits_pattern

PRIMARY = "PRIMARY"


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """On what a rule depends: a keyword of the primary has one of these values."""

    keyword: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordRules:
    """What is asked of a keyword; whatever it is, it may stand once only.

    Attributes
    ----------
    keyword : str
    type : str or None
        ``text``, ``integer``, ``real`` or ``logical``; None for any.
    required : tuple of When or None
        On what it depends that the keyword must be there, all of it; empty where it always must, None where it never must.
    undefined : bool or None
        Whether a card without a value will do; None where it will unless the keyword must be there.
    width : int or None
        Characters that the archive has room for.
    minimum, maximum : int, float or None
        Both included.
    values : tuple of Value
        The only ones that it may have; empty for any.
    pattern : str
        That its text fits; empty for any. It has no fault by `assembler.core.text_patterns`.
    """

    keyword: str
    type: ValueKind | None = None
    required: tuple[When, ...] | None = None
    undefined: bool | None = None
    width: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[Value, ...] = ()
    pattern: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of rules that these are, in the order in which they are looked at."""
        asked = {
            "required": self.required is not None,
            "duplicate": True,
            "undefined": self.required is not None if self.undefined is None else not self.undefined,
            "type": self.type is not None,
            "width": self.width is not None,
            "range": self.minimum is not None or self.maximum is not None,
            "values": bool(self.values),
            "pattern": bool(self.pattern),
        }
        return tuple(kind for kind, there in asked.items() if there)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionRules:
    """What is asked of an extension: whether it must be there, as of a keyword, and its keywords; it may be there once only."""

    name: str
    required: tuple[When, ...] | None = None
    keywords: tuple[KeywordRules, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of an archive.

    Attributes
    ----------
    archive : str
        Its name.
    instrument : str
        Whose L0s they are for; empty where that is not said.
    place : str
        Where in it an L0 goes, as `assembler.core.places` has it; empty where that is not said.
    decimals : int
        Digits after the decimal point with which it writes a real number; the width counts them.
    name : NameRules
    primary : tuple of KeywordRules
    forbidden : tuple of str
        Keywords that the primary must not have.
    extensions : tuple of ExtensionRules
    warnings : frozenset of str
        Names of rules that are told when they are broken, and do not refuse the L0.
    """

    archive: str
    instrument: str = ""
    place: str = ""
    decimals: int = 0
    name: NameRules = field(default_factory=NameRules)
    primary: tuple[KeywordRules, ...] = ()
    forbidden: tuple[str, ...] = ()
    extensions: tuple[ExtensionRules, ...] = ()
    warnings: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that an L0 breaks; all text is of one line.

    Attributes
    ----------
    rule : str
        Its name.
    extension : str
        The HDU that it is about: PRIMARY, or an EXTNAME.
    keyword : str
        Empty where it is about none.
    message : str
        What there is, and what was expected.
    refuses : bool
        Whether the archive refuses the L0 for it.
    """

    rule: str
    extension: str
    keyword: str
    message: str
    refuses: bool = True


def rule_names(rules: Rules) -> tuple[str, ...]:
    """Return the names of all rules, in the order in which they are looked at.

    >>> rule_names(Rules(archive="KOA", forbidden=("KOAID",), primary=(KeywordRules(keyword="UT", type="text", width=16),)))
    ('forbidden KOAID', 'duplicate UT', 'type UT', 'width UT')
    """
    name = rules.name
    names = ["name template"] if name.template else []
    names += [f"name {keyword}" for keyword in (name.keyword, name.begin, name.date, name.frame) if keyword]
    names += [f"forbidden {keyword}" for keyword in rules.forbidden]
    names += [f"{kind} {rule.keyword}" for rule in rules.primary for kind in rule.kinds]
    for extension in rules.extensions:
        names.append(f"hdu {extension.name}")
        names += [f"{kind} {extension.name}.{rule.keyword}" for rule in extension.keywords for kind in rule.kinds]
    return tuple(names)


def broken_rules(rules: Rules, hdus: Sequence[Hdu], filename: str) -> tuple[Broken, ...]:
    """Return the rules of an archive that an L0 breaks.

    Parameters
    ----------
    rules : Rules
    hdus : sequence of Hdu
        Those of the L0.
    filename : str
        Its name, without directory.

    >>> rules = Rules(archive="KOA", primary=(KeywordRules(keyword="OBJECT", required=()),))
    >>> hdu = Hdu(index=0, images=("SIMPLE  =                    T".ljust(80),), offset=2880, length=0, header_sum=0)
    >>> [(b.rule, b.message) for b in broken_rules(rules, [hdu], "a.fits")]
    [('required OBJECT', 'OBJECT is not there')]
    """
    primary = _values(hdus[0]) if hdus else {}
    firsts = {keyword: values[0] for keyword, values in primary.items()}
    broken = [
        *(_told(rule, PRIMARY, keyword, told) for rule, keyword, told in name_faults(rules.name, firsts, filename)),
        *(_told(f"forbidden {k}", PRIMARY, k, f"{k} is there; the archive takes no L0 with it") for k in rules.forbidden if k in primary),
        *_keywords_broken(rules.primary, PRIMARY, primary, firsts, rules.decimals),
    ]
    for extension in rules.extensions:
        broken += _extension_broken(extension, [h for h in hdus[1:] if h.extname == extension.name], firsts, rules.decimals)
    return tuple(replace(b, refuses=False) if b.rule in rules.warnings else b for b in broken)


def _values(hdu: Hdu) -> dict[str, list[Value]]:
    """Return all values of each keyword of a header."""
    values: dict[str, list[Value]] = {}
    for record in hdu.records():
        if record.kind == "value":
            values.setdefault(record.keyword, []).append(record.value)
    return values


def _extension_broken(extension: ExtensionRules, hdus: Sequence[Hdu], primary: Mapping[str, Value], decimals: int) -> Iterator[Broken]:
    name = extension.name
    if not hdus and _holds(extension.required, primary):
        yield _told(f"hdu {name}", name, "", f"{name} is not there{_because(extension.required)}")
    if len(hdus) > 1:
        yield _told(f"hdu {name}", name, "", f"{name} is there {len(hdus)} times")
    if hdus:
        yield from _keywords_broken(extension.keywords, name, _values(hdus[0]), primary, decimals)


def _keywords_broken(
    rules: Iterable[KeywordRules],
    extension: str,
    values: Mapping[str, Sequence[Value]],
    primary: Mapping[str, Value],
    decimals: int,
) -> Iterator[Broken]:
    for rule in rules:
        keyword = rule.keyword
        where = keyword if extension == PRIMARY else f"{extension}.{keyword}"
        for kind, told in _keyword_broken(rule, values.get(keyword, ()), primary, decimals):
            yield _told(f"{kind} {where}", extension, keyword, f"{keyword} {told}")


def _keyword_broken(rule: KeywordRules, values: Sequence[Value], primary: Mapping[str, Value], decimals: int) -> Iterator[tuple[str, str]]:
    """Yield the kind of each rule that the cards of a keyword break, and what is wrong; of several cards the first counts."""
    needed = _holds(rule.required, primary)
    if not values:
        if needed:
            yield "required", f"is not there{_because(rule.required)}"
        return
    if len(values) > 1:
        yield "duplicate", f"is there {len(values)} times"
    value = values[0]
    if is_undefined(value):
        if needed if rule.undefined is None else not rule.undefined:
            yield "undefined", f"has no value{_because(rule.required) if rule.undefined is None else ''}"
    elif rule.type and not is_of_kind(rule.type, value):
        yield "type", f"is {value_told(value)}, expected {KIND_NAMES[rule.type]}"
    else:
        yield from _value_broken(rule, value, decimals)


def _value_broken(rule: KeywordRules, value: Value, decimals: int) -> Iterator[tuple[str, str]]:
    stored = float(value) if rule.type == "real" and isinstance(value, int) else value
    if rule.width is not None and (width := width_of(stored, decimals)) > rule.width:
        yield "width", f"is {value_told(value)}, {width} characters; the archive has room for {rule.width}"
    if isinstance(value, int | float):
        if rule.minimum is not None and value < rule.minimum:
            yield "range", f"is {value_told(value)}, expected at least {rule.minimum}"
        if rule.maximum is not None and value > rule.maximum:
            yield "range", f"is {value_told(value)}, expected at most {rule.maximum}"
    if rule.values and not any(is_same(value, v) for v in rule.values):
        yield "values", f"is {value_told(value)}, expected {any_of(rule.values)}"
    if rule.pattern and not fits_pattern(rule.pattern, str(value)):
        yield "pattern", f"is {value_told(value)}, expected text that fits {rule.pattern}"


def _holds(required: tuple[When, ...] | None, primary: Mapping[str, Value]) -> bool:
    return required is not None and all(any(is_same(primary.get(w.keyword), v) for v in w.values) for w in required)


def _because(required: tuple[When, ...] | None) -> str:
    return f", although {' and '.join(f'{w.keyword} is {any_of(w.values)}' for w in required)}" if required else ""


def _told(rule: str, extension: str, keyword: str, message: str) -> Broken:
    return Broken(rule=as_line(rule), extension=extension, keyword=keyword, message=as_line(message))
